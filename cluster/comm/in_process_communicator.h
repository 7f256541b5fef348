// N ranks as threads of one process. The same rings, doorbells and collectives as between processes
// of one host (tcp), over socket pairs instead of TCP connections: real arithmetic, deadlines and
// failures.
//
// A rank that is destroyed while others still need it, or that aborts, fails them with its name.
// Errors: ResourceExhausted (memory, file descriptors).
// Thread rule: each communicator belongs to one thread; they may be destroyed in any order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"

namespace weft {

struct InProcessOptions {
  // By rank, or empty: none. They must outlive the communicators.
  std::vector<FlightRecorder*> recorders;
  // "dp.0", for the recorders.
  std::string group;
  // What messages call the ranks: their numbers in the whole world; empty: the same numbers.
  std::vector<int> world_ranks;
  // All ranks of the run, as TcpOptions has it; 0: those of these communicators.
  int ranks_on_host = 0;
  // 0: chosen by the number of ranks.
  size_t ring_bytes = 0;
};

// The communicators of ranks 0 ... size - 1.
StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeInProcessCommunicators(
    int size, const InProcessOptions& options = {});

}  // namespace weft
