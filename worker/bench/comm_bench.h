// `weft bench comm`: how fast ranks of this machine exchange, by backend, operation and size. Ranks are threads of one process,
// each with its own communicator, listener and, on GPUs, device. Bus bandwidth is what each rank's link carries at least, as
// the tables of nccl-tests define it: bytes / seconds x 2 (n-1) / n for all_reduce, x (n-1) / n for all_gather,
// reduce_scatter and all_to_all (bytes: those of all ranks), x 1 for messages around the ring.
//
// Errors: those of connecting; FailedPrecondition without a GPU for each rank. Thread rule: makes its own threads.
#pragma once

#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/layout.pb.h"

namespace weft {

struct CommBenchOptions {
  CommBackend backend = TCP;
  Device device = CPU;
  int ranks = 2;
  size_t largest_bytes = size_t{64} << 20;
};

struct CommBenchRow {
  std::string operation;
  size_t bytes = 0;
  // The slowest rank's mean of one call.
  double seconds = 0;
  double bus_bytes_per_second = 0;
};

StatusOr<std::vector<CommBenchRow>> BenchComm(const CommBenchOptions& options);

}  // namespace weft
