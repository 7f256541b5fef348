// The communicators of this rank over the backend, and for the device, that the coordinator chose for all ranks.
//
// Errors: those of the backend's connecting; FailedPrecondition for what this build lacks. Thread rule: communicator.h's.
#pragma once

#include <string>

#include "cluster/base/status.h"
#include "cluster/comm/mesh_communicators.h"
#include "cluster/config/layout.pb.h"

namespace weft {

struct MeshBackend {
  // No BACKEND_AUTO.
  CommBackend backend = TCP;
  // Where the buffers of the operations will lie: CPU or CUDA.
  Device device = CPU;
  // As in control::Start.
  int gpu = -1;
  std::string comm_id;
};

// `world`: this rank and all endpoints; whatever the backend, its rank, timeout and recorder are used. All ranks call it at about
// the same time.
StatusOr<MeshCommunicators> ConnectMeshFor(const ParallelDims& dims, const MeshBackend& backend,
                                           const TcpOptions& world, Listener& listener);

}  // namespace weft
