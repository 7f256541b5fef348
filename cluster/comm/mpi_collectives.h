// The collectives on MPI, as steps: each posts requests, and the next follows when those are done.
//
// MPI's own collective where the result cannot depend on its order: copies (broadcast, all_gather) and reductions of integers.
// Sums in floating point must be the same bits as those of the other backends, in rank order with bf16 in fp32, which MPI does
// not promise and for bf16 does not have: there ranks exchange what belongs to each, sum by themselves (reduce.h), and gather.
// The same exchange stands in where MPI's int counts end.
//
// Errors: MPI's, FailedPrecondition for a message of another length. Thread rule: MPI's thread (mpi_process.h).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/mpi_calls.h"

namespace weft::mpi {

// Posts the next step; false: there is none, and the collective is done.
using Steps = std::function<StatusOr<bool>(Requests*)>;

struct Place {
  const Calls* calls = nullptr;
  int rank = 0;
  int size = 1;
};

// Counts, dtypes and buffers as in communicator.h.
Steps AllReduceSteps(const Place& place, void* data, size_t count, DType dtype, ReduceOp op);
Steps AllGatherSteps(const Place& place, const void* send, void* recv, size_t bytes);
Steps ReduceScatterSteps(const Place& place, const void* send, void* recv, size_t count,
                         DType dtype, ReduceOp op);
Steps BroadcastSteps(const Place& place, void* data, size_t bytes, int root);
Steps AllToAllSteps(const Place& place, const std::vector<SendBuffer>& send,
                    const std::vector<RecvBuffer>& recv);

}  // namespace weft::mpi
