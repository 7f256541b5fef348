#include "cluster/comm/nccl_connect.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/nccl_communicator.h"

namespace weft {
namespace {

using nccl::Communication;
using nccl::FromCuda;

static_assert(sizeof(ncclUniqueId) == sizeof(NcclUniqueId));

Status ChooseDevice(const NcclOptions& options) {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || options.device >= devices) {
    return FailedPrecondition(
        "rank " + std::to_string(options.rank) + " wants CUDA device " +
        std::to_string(options.device) + ", but there are " + std::to_string(devices) +
        (found == cudaSuccess ? "" : std::string(" (") + cudaGetErrorString(found) + ")") +
        "; use layout.backend TCP, or fewer ranks a node");
  }
  return FromCuda(cudaSetDevice(options.device), "choosing the device");
}

StatusOr<std::shared_ptr<Communication>> ConnectWorld(const NcclOptions& options,
                                                      TimePoint deadline) {
  WEFT_RETURN_IF_ERROR(ChooseDevice(options));
  ncclUniqueId id;
  std::memcpy(&id, options.unique_id.data(), sizeof(id));
  return Communication::Init(options.size, id, options.rank, deadline);
}

std::string Milliseconds(Duration time) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f ms", 1e3 * ToSeconds(time));
  return text;
}

// The communicator of one axis. NCCL connects at the first collective: that is now, not in a step.
StatusOr<std::unique_ptr<Communicator>> SplitAxis(const NcclOptions& options, int color,
                                                  const std::shared_ptr<Communication>& everybody,
                                                  const std::shared_ptr<nccl::Family>& family,
                                                  TimePoint deadline) {
  WEFT_ASSIGN_OR_RETURN(auto communication, everybody->Split(color, options.rank, 0, deadline));
  WEFT_ASSIGN_OR_RETURN(auto made, nccl::OpenCommunicator(options, std::move(communication),
                                                          everybody, family, deadline));
  const Duration left = std::max<Duration>(deadline - Clock::now(), Duration::zero());
  WEFT_RETURN_IF_ERROR(made->Barrier({.name = "connect", .timeout = left})->Wait());
  return made;
}

}  // namespace

StatusOr<NcclUniqueId> MakeNcclUniqueId() {
  ncclUniqueId id;
  WEFT_RETURN_IF_ERROR(nccl::FromNccl(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  NcclUniqueId bytes;
  std::memcpy(bytes.data(), &id, sizeof(id));
  return bytes;
}

StatusOr<std::string> NcclVersion() {
  int version = 0;
  WEFT_RETURN_IF_ERROR(nccl::FromNccl(ncclGetVersion(&version), "ncclGetVersion"));
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions& options) {
  const TimePoint deadline = Clock::now() + options.timeout;
  WEFT_ASSIGN_OR_RETURN(auto communication, ConnectWorld(options, deadline));
  return nccl::OpenCommunicator(options, std::move(communication), nullptr,
                                std::make_shared<nccl::Family>(), deadline);
}

StatusOr<MeshCommunicators> ConnectNcclMesh(const ParallelDims& dims, const NcclOptions& world) {
  if (world.size != dims.world_size())
    return InvalidArgument(std::to_string(world.size) + " ranks in a layout of " +
                           std::to_string(dims.world_size()));
  const Mesh mesh(dims);
  const TimePoint begin = Clock::now();
  const TimePoint deadline = begin + world.timeout;
  WEFT_ASSIGN_OR_RETURN(const auto everybody, ConnectWorld(world, deadline));
  std::string times = "the world " + Milliseconds(Clock::now() - begin);
  const auto family = std::make_shared<nccl::Family>();
  MeshCommunicators mine;
  for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
    if (dims.Degree(axis) == 1) continue;
    NcclOptions options = world;
    options.rank = mesh.CoordinateOf(world.rank).Index(axis);
    options.size = dims.Degree(axis);
    options.group = GroupName(mesh, axis, world.rank);
    options.lanes = axis == Axis::kPipeline ? NcclLanes::kRing : NcclLanes::kNone;
    const TimePoint start = Clock::now();
    auto made =
        SplitAxis(options, mesh.Group(axis, world.rank).front(), everybody, family, deadline);
    WEFT_RETURN_IF_ERROR(made.status().WithContext(options.group));
    times += ", " + options.group + " " + Milliseconds(Clock::now() - start);
    mine.Of(axis) = *std::move(made);
  }
  WEFT_LOG(INFO) << "NCCL: " << world.size << " ranks connected in "
                 << Milliseconds(Clock::now() - begin) << " (" << times << ")";
  return mine;
}

}  // namespace weft
