#include "cluster/comm/connect_mesh.h"

#include <cstring>
#include <utility>

#include "cluster/comm/mpi_communicator.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/staged_communicator.h"

namespace weft {
namespace {

StatusOr<MeshCommunicators> OverNccl(const ParallelDims& dims, const MeshBackend& backend,
                                     const TcpOptions& world) {
  NcclOptions options;
  if (backend.comm_id.size() != options.unique_id.size()) {
    return FailedPrecondition(
        "layout.backend is NCCL, but rank 0 gave no NCCL id: its build has no NCCL; build the cuda "
        "preset on every "
        "host, or set layout.backend to TCP");
  }
  std::memcpy(options.unique_id.data(), backend.comm_id.data(), options.unique_id.size());
  options.rank = world.rank;
  options.size = dims.world_size();
  options.device = backend.gpu;
  options.timeout = world.timeout;
  options.recorder = world.recorder;
  return ConnectNcclMesh(dims, options);
}

// Over a backend for the host's memory.
StatusOr<MeshCommunicators> OverHost(const ParallelDims& dims, CommBackend backend,
                                     const TcpOptions& world, Listener& listener) {
  if (backend == TCP) return ConnectMesh(dims, world, listener);
  return ConnectMpiMesh(dims, {.rank = world.rank,
                               .size = dims.world_size(),
                               .timeout = world.timeout,
                               .recorder = world.recorder});
}

}  // namespace

StatusOr<MeshCommunicators> ConnectMeshFor(const ParallelDims& dims, const MeshBackend& backend,
                                           const TcpOptions& world, Listener& listener) {
  if (backend.backend == NCCL) return OverNccl(dims, backend, world);
  if (backend.backend == BACKEND_AUTO)
    return Internal("the coordinator left layout.backend at AUTO");
  WEFT_ASSIGN_OR_RETURN(MeshCommunicators mesh, OverHost(dims, backend.backend, world, listener));
  if (backend.device == CPU) return mesh;
  for (auto* axis : {&mesh.dp, &mesh.tp, &mesh.pp}) {
    if (*axis == nullptr) continue;
    WEFT_ASSIGN_OR_RETURN(*axis, StageThroughHost(std::move(*axis), backend.gpu));
  }
  return mesh;
}

}  // namespace weft
