#include "coordinator/device_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace weft {
namespace {

std::string NameOf(const std::vector<RankPlace>& ranks, size_t rank) {
  return "rank " + std::to_string(rank) + " (host " + ranks[rank].host + ")";
}

// The first rank that sees no GPU; ranks.size() if all do.
size_t FirstWithoutGpu(const std::vector<RankPlace>& ranks) {
  const auto found = std::find_if(ranks.begin(), ranks.end(), [](const RankPlace& place) {
    return place.hello->gpus().empty();
  });
  return static_cast<size_t>(found - ranks.begin());
}

// Each rank's GPU, in rank order the one that the fewest have so far, by uuid. `shared`: the first rank that shares its GPU
// with an earlier one; ranks.size() if nobody does.
std::vector<int> DealGpus(const std::vector<RankPlace>& ranks, size_t* shared) {
  std::map<std::string, int> users;
  std::vector<int> dealt;
  *shared = ranks.size();
  for (const RankPlace& place : ranks) {
    const auto& gpus = place.hello->gpus();
    const auto least = std::min_element(gpus.begin(), gpus.end(),
                                        [&users](const control::Gpu& a, const control::Gpu& b) {
                                          return users[a.uuid()] < users[b.uuid()];
                                        });
    if (users[least->uuid()]++ > 0) *shared = std::min(*shared, dealt.size());
    dealt.push_back(static_cast<int>(least - gpus.begin()));
  }
  return dealt;
}

// NCCL on tensors in host memory works where each rank's GPU may work on any memory.
bool AllReadHostMemory(const std::vector<RankPlace>& ranks, const std::vector<int>& gpus) {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].hello->gpus(gpus[rank]).reads_host_memory()) return false;
  }
  return true;
}

Status CheckNccl(const std::vector<RankPlace>& ranks, Device device, const std::vector<int>& gpus,
                 size_t shared) {
  if (device == CPU && !AllReadHostMemory(ranks, gpus)) {
    return FailedPrecondition(
        "layout.backend is NCCL and layout.device is CPU, but the GPUs cannot work on the host's "
        "memory; set "
        "layout.device to CUDA, or layout.backend to TCP");
  }
  if (shared < ranks.size()) {
    return FailedPrecondition(
        "layout.backend is NCCL, but " + NameOf(ranks, shared) +
        " would share a GPU with another rank; use fewer ranks a node, or layout.backend TCP");
  }
  return OkStatus();
}

std::string Describe(const Layout& layout, const std::vector<RankPlace>& ranks,
                     const std::vector<int>& gpus) {
  const std::string count = std::to_string(ranks.size()) + (ranks.size() == 1 ? " rank" : " ranks");
  const std::string over = ranks.size() == 1 ? "" : " over " + CommBackend_Name(layout.backend());
  if (layout.device() == CPU) return count + " on CPUs" + over;
  std::set<std::string> used;
  std::set<std::string> names;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const control::Gpu& gpu = ranks[rank].hello->gpus(gpus[rank]);
    used.insert(gpu.uuid());
    names.insert(gpu.name());
  }
  std::string kinds;
  for (const std::string& name : names) kinds += (kinds.empty() ? "" : ", ") + name;
  return count + " on " + std::to_string(used.size()) + (used.size() == 1 ? " GPU (" : " GPUs (") +
         kinds + ")" + over;
}

}  // namespace

StatusOr<DevicePlan> PlanDevices(const Layout& layout, const std::vector<RankPlace>& ranks) {
  DevicePlan plan;
  plan.layout = layout;
  const size_t blind = FirstWithoutGpu(ranks);
  const bool all_see = blind == ranks.size();
  const bool wants = layout.device() == CUDA || layout.backend() == NCCL;
  if (wants && !all_see) {
    return FailedPrecondition(
        std::string(layout.device() == CUDA ? "layout.device is CUDA" : "layout.backend is NCCL") +
        ", but " + NameOf(ranks, blind) +
        " sees no CUDA device; run where each rank has one, in a build with CUDA, or set "
        "layout.device to CPU" +
        (layout.backend() == NCCL ? " and layout.backend to TCP" : ""));
  }
  if (layout.device() == DEVICE_AUTO) plan.layout.set_device(all_see ? CUDA : CPU);
  plan.gpus.assign(ranks.size(), -1);
  size_t shared = ranks.size();
  if (plan.layout.device() == CUDA || layout.backend() == NCCL)
    plan.gpus = DealGpus(ranks, &shared);
  if (layout.backend() == NCCL)
    WEFT_RETURN_IF_ERROR(CheckNccl(ranks, plan.layout.device(), plan.gpus, shared));
  if (layout.backend() == BACKEND_AUTO) {
    const bool own_gpus = plan.layout.device() == CUDA && shared == ranks.size();
    plan.layout.set_backend(own_gpus ? NCCL : TCP);
  }
  plan.text = Describe(plan.layout, ranks, plan.gpus);
  return plan;
}

}  // namespace weft
