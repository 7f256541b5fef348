// What the ranks of a generation compute on and talk through: the layout's AUTO made definite, the same for all ranks, from
// what their processes see. A GPU is one by its uuid, so it does not matter how CUDA_VISIBLE_DEVICES numbers it.
//
// Errors: FailedPrecondition if the layout asks for what is not there; names the rank, its host and what to do.
// Thread rule: a value.
#pragma once

#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/layout.pb.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

struct RankPlace {
  std::string host;
  const control::WorkerHello* hello = nullptr;
};

struct DevicePlan {
  // device and backend say what they are.
  Layout layout;
  // By rank: an index into its hello's gpus; -1 on the CPU.
  std::vector<int> gpus;
  // For people: "2 ranks on 2 GPUs (NVIDIA H100 80GB HBM3) over NCCL"; "4 ranks on CPUs over TCP".
  std::string text;
};

StatusOr<DevicePlan> PlanDevices(const Layout& layout, const std::vector<RankPlace>& ranks);

}  // namespace weft
