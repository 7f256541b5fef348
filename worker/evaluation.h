// Evaluation of a trained session on the recipe's eval_shards.
//
// Thread rule: the training thread; a collective.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "worker/session.h"

namespace weft {

// Which rows of the held-out set a dp rank encodes, and in which batches.
struct EvalPart {
  struct Batch {
    int64_t begin = 0;
    int64_t end = 0;
  };
  // Own rows: those of the batches from the first one on; what comes behind them is not counted.
  int64_t count = 0;
  // As many on every rank, none of them empty: a batch gathers parameters over dp.
  std::vector<Batch> batches;
};
EvalPart EvalPartOf(int64_t total, int64_t ranks, int64_t rank, int64_t batch_size);

// Retrieval between the held-out images and captions. Each dp rank encodes its part; the ranks of the last
// stage return the same record, the others an empty one.
// Errors: the loader's, a collective's.
StatusOr<control::EvalRecord> EvaluateSession(Session* session);

}  // namespace weft
