// Ranks with a GPU each, over NCCL; only with WEFT_CUDA. All pointers are device memory.
//
// Communicators are non-blocking (ncclConfig.blocking = 0): nothing in NCCL ever holds the calling thread, so a rank whose peer
// died can still give up. An operation runs on a stream of the communicator, behind what was on OpOptions.stream when it was
// called, beside what comes there later; Wait makes that stream wait for it, not the host. Without a stream the host is the
// caller: its Wait blocks. A thread of the communicator looks after what is under way (nccl_watch.h); a failure aborts the
// communicator and with it the others of its mesh (ncclCommAbort, in one group), which frees the GPU from kernels that wait for
// a dead peer: streams go on, so a host that has waited for its stream asks failure() before it believes the numbers. The
// deadline of an operation with a stream runs from when the stream has come to it. A communicator that is destroyed fails what
// is not done; its Works may outlive it.
//
// NCCL does the operations of a communicator one after the other, so a Recv whose peer is late would hold up everything behind
// it. Each lane therefore is a communicator of two ranks and a stream of its own (one pair, one direction), made on connecting;
// events order lanes and collectives as communicator.h says. A lane's kernel is small (two blocks of the GPU): it may wait long.
//
// Sums are NCCL's: in the order of its rings and trees, not in rank order; deterministic layouts exchange with AllToAll and
// AllGather and sum by themselves. NCCL tells no peer: CurrentOperation names none, an error neither, and a rank that aborts is
// noticed by the others' deadlines, or by who tells them to abort. Ranks that call different operations hang until the deadline.
//
// Errors: FailedPrecondition (no CUDA device; no lane to that peer), Unavailable (NCCL or CUDA reports one), DeadlineExceeded
// names the operation. Thread rule: communicator.h's.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/mesh_communicators.h"

namespace weft {

// What rank 0 makes and all ranks need: ncclUniqueId as bytes, to be sent over the control plane.
using NcclUniqueId = std::array<std::byte, 128>;
StatusOr<NcclUniqueId> MakeNcclUniqueId();

// "2.28.9".
StatusOr<std::string> NcclVersion();

// Between which ranks there are lanes.
enum class NcclLanes {
  kNone,
  kRing,      // each rank and the next, and the last and the first: a pipeline's
  kAllPairs,  // takes 2 (size - 1) splits or more
};

struct NcclOptions {
  int rank = 0;
  int size = 1;
  NcclUniqueId unique_id{};
  int device = 0;
  // For the connecting.
  Duration timeout = std::chrono::seconds(60);
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
  NcclLanes lanes = NcclLanes::kAllPairs;
  // "dp.0", for the recorder.
  std::string group;
};

// All ranks call it at about the same time.
StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions& options);

// One communicator an axis, split from one over the world in the order dp, tp, pp, with lanes around the ring of pp; logs how
// long it took. `world`: of all ranks; lanes and group are set here. All ranks call it at about the same time, also for the
// next generation, with a new id, in a process that aborted the last one's.
StatusOr<MeshCommunicators> ConnectNcclMesh(const ParallelDims& dims, const NcclOptions& world);

}  // namespace weft
