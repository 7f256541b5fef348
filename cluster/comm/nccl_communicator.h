// Ranks with a GPU each, over NCCL; only with WEFT_CUDA. All pointers are device memory.
//
// The communicator is non-blocking (ncclConfig.blocking = 0): nothing in NCCL ever holds the calling thread, so a rank whose peer
// died can still give up. A Work is an event on the stream; Wait polls the event, NCCL's own error and the deadline, and a
// failure aborts the communicator (ncclCommAbort), which frees the GPU from kernels that wait for a dead peer.
//
// Sums are NCCL's: in the order of its rings and trees, not in rank order; deterministic layouts exchange with AllToAll and
// AllGather and sum by themselves. CurrentOperation knows no peers: NCCL does not tell which one it waits for.
//
// Errors: FailedPrecondition (no CUDA device), Unavailable (NCCL or CUDA reports one), DeadlineExceeded names the operation.
// Thread rule: communicator.h's.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"

namespace weft {

// What rank 0 makes and all ranks need: ncclUniqueId as bytes, to be sent over the control plane.
using NcclUniqueId = std::array<std::byte, 128>;
StatusOr<NcclUniqueId> MakeNcclUniqueId();

// "2.28.9".
StatusOr<std::string> NcclVersion();

struct NcclOptions {
  int rank = 0;
  int size = 1;
  NcclUniqueId unique_id{};
  int device = 0;
  // cudaStream_t of operations that name none; null: a stream of the communicator's own.
  void* stream = nullptr;
  // For the connecting.
  Duration timeout = std::chrono::seconds(60);
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
};

// All ranks call it at about the same time.
StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions& options);

}  // namespace weft
