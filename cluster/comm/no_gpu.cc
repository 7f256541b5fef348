// A build without CUDA: what gpus.h, nccl_connect.h and staged_communicator.h promise, where there is nothing.
#include "cluster/comm/gpus.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/staged_communicator.h"

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
StatusOr<std::unique_ptr<Communicator>> StageThroughHost(std::unique_ptr<Communicator>, int) {
  return FailedPrecondition(
      "this build has no CUDA; build the cuda preset, or set layout.device to CPU");
}

}  // namespace weft
