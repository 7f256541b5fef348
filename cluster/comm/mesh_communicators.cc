#include "cluster/comm/mesh_communicators.h"

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/comm/in_process_communicator.h"

namespace weft {
namespace {

// The order in which they are made.
constexpr Axis kAxes[] = {Axis::kData, Axis::kTensor, Axis::kPipeline};

std::string HostOf(const std::string& endpoint) { return endpoint.substr(0, endpoint.rfind(':')); }

int RanksOnHost(const TcpOptions& world) {
  const std::string own = HostOf(world.endpoints[static_cast<size_t>(world.rank)]);
  return static_cast<int>(
      std::count_if(world.endpoints.begin(), world.endpoints.end(),
                    [&](const std::string& endpoint) { return HostOf(endpoint) == own; }));
}

// The options of one axis's communicator.
TcpOptions OptionsOf(const Mesh& mesh, Axis axis, const TcpOptions& world) {
  TcpOptions options = world;
  options.world_ranks = mesh.Group(axis, world.rank);
  options.rank = mesh.CoordinateOf(world.rank).Index(axis);
  options.endpoints.clear();
  for (const int rank : options.world_ranks)
    options.endpoints.push_back(world.endpoints[static_cast<size_t>(rank)]);
  options.group = GroupName(mesh, axis, world.rank);
  for (const Axis other : kAxes) {
    if (mesh.dims().Degree(other) > 1)
      options.other_groups.push_back(GroupName(mesh, other, world.rank));
  }
  if (options.ranks_on_host == 0) options.ranks_on_host = RanksOnHost(world);
  return options;
}

Status MakeInProcessGroup(const Mesh& mesh, Axis axis, int first,
                          const std::vector<FlightRecorder*>& recorders,
                          std::vector<MeshCommunicators>* ranks) {
  InProcessOptions options;
  options.world_ranks = mesh.Group(axis, first);
  options.group = GroupName(mesh, axis, first);
  options.ranks_on_host = mesh.world_size();
  for (const int rank : options.world_ranks) {
    if (!recorders.empty()) options.recorders.push_back(recorders[static_cast<size_t>(rank)]);
  }
  WEFT_ASSIGN_OR_RETURN(
      auto communicators,
      MakeInProcessCommunicators(static_cast<int>(options.world_ranks.size()), options));
  for (size_t i = 0; i < communicators.size(); ++i) {
    const auto rank = static_cast<size_t>(options.world_ranks[i]);
    (*ranks)[rank].Of(axis) = std::move(communicators[i]);
  }
  return OkStatus();
}

}  // namespace

std::unique_ptr<Communicator>& MeshCommunicators::Of(Axis axis) {
  return axis == Axis::kPipeline ? pp : axis == Axis::kData ? dp : tp;
}

std::vector<Communicator*> MeshCommunicators::All() const {
  std::vector<Communicator*> all;
  for (const auto* communicator : {&dp, &tp, &pp}) {
    if (*communicator != nullptr) all.push_back(communicator->get());
  }
  return all;
}

void MeshCommunicators::Abort(const Status& reason) {
  for (Communicator* communicator : All()) communicator->Abort(reason);
}

Status MeshCommunicators::failure() const {
  for (const Communicator* communicator : All()) WEFT_RETURN_IF_ERROR(communicator->failure());
  return OkStatus();
}

std::string MeshCommunicators::CurrentOperation() const {
  std::string text;
  const auto add = [&text](const char* axis, const std::unique_ptr<Communicator>& communicator) {
    const std::string operation = communicator == nullptr ? "" : communicator->CurrentOperation();
    if (operation.empty()) return;
    text += (text.empty() ? "" : "; ") + std::string(axis) + ": " + operation;
  };
  add("dp", dp);
  add("tp", tp);
  add("pp", pp);
  return text;
}

std::string GroupName(const Mesh& mesh, Axis axis, int rank) {
  return std::string(AxisName(axis)) + "." + std::to_string(mesh.Group(axis, rank).front());
}

StatusOr<MeshCommunicators> ConnectMesh(const ParallelDims& dims, const TcpOptions& world,
                                        Listener& listener) {
  if (static_cast<int>(world.endpoints.size()) != dims.world_size() || world.rank < 0 ||
      world.rank >= dims.world_size()) {
    return InvalidArgument("rank " + std::to_string(world.rank) + " of " +
                           std::to_string(world.endpoints.size()) + " endpoints in a layout of " +
                           std::to_string(dims.world_size()) + " ranks");
  }
  const Mesh mesh(dims);
  const TimePoint deadline = Clock::now() + world.timeout;
  MeshCommunicators mine;
  for (const Axis axis : kAxes) {
    if (dims.Degree(axis) == 1) continue;
    TcpOptions options = OptionsOf(mesh, axis, world);
    options.timeout = std::max<Duration>(deadline - Clock::now(), Duration::zero());
    StatusOr<std::unique_ptr<Communicator>> made = ConnectTcp(options, listener);
    WEFT_RETURN_IF_ERROR(made.status().WithContext(options.group));
    mine.Of(axis) = *std::move(made);
  }
  return mine;
}

StatusOr<std::vector<MeshCommunicators>> MakeInProcessMesh(
    const ParallelDims& dims, const std::vector<FlightRecorder*>& recorders) {
  const Mesh mesh(dims);
  WEFT_CHECK(recorders.empty() || recorders.size() == static_cast<size_t>(mesh.world_size()));
  std::vector<MeshCommunicators> ranks(static_cast<size_t>(mesh.world_size()));
  for (const Axis axis : kAxes) {
    for (int rank = 0; rank < mesh.world_size(); ++rank) {
      if (dims.Degree(axis) == 1 || mesh.Group(axis, rank).front() != rank) continue;
      WEFT_RETURN_IF_ERROR(MakeInProcessGroup(mesh, axis, rank, recorders, &ranks));
    }
  }
  return ranks;
}

}  // namespace weft
