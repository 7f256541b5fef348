// Evaluation of a trained session on the recipe's eval_shards.
//
// Thread rule: the training thread; a collective.
#pragma once

#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "worker/session.h"

namespace weft {

// Retrieval between the held-out images and captions. Each rank encodes its part; every rank returns the same record.
// Errors: the loader's, a collective's.
StatusOr<control::EvalRecord> EvaluateSession(Session* session);

}  // namespace weft
