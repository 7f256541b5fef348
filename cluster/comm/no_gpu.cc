// A build without CUDA: what gpus.h and nccl_connect.h promise, where there is nothing.
#include "cluster/comm/gpus.h"
#include "cluster/comm/nccl_connect.h"

namespace weft {
namespace {

Status NoNccl() {
  return FailedPrecondition(
      "this build has no NCCL; build the cuda preset, or set layout.backend to TCP");
}

}  // namespace

std::vector<GpuInfo> ListGpus() { return {}; }

StatusOr<NcclUniqueId> MakeNcclUniqueId() { return NoNccl(); }
StatusOr<std::string> NcclVersion() { return NoNccl(); }
StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions&) { return NoNccl(); }
StatusOr<MeshCommunicators> ConnectNcclMesh(const ParallelDims&, const NcclOptions&) {
  return NoNccl();
}

}  // namespace weft
