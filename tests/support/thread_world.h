// Ranks as threads of the test: fn runs once a rank, each with its communicator over the in_process backend. The first rank that
// fails makes the others fail (no test hangs on it), and its Status is returned with "rank 2: " before it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"

namespace weft::testing {

using RankFn = std::function<Status(Communicator&)>;

Status ThreadWorld(int size, const RankFn& fn);

// The same over communicators of any backend, by rank. They are destroyed when all threads are done.
Status RunOnThreads(std::vector<std::unique_ptr<Communicator>> communicators, const RankFn& fn);

}  // namespace weft::testing
