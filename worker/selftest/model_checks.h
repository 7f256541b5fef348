// Short trainings of a recipe's model on a device against the CPU in fp64, on synthetic micro-batches: losses and gradient
// norms after optimizer steps see every layer, its gradient, the reducer and the optimizer. Then the same once more: equal bits.
//
// Errors: those of a step. Thread rule: the thread that has entered the device.
#pragma once

#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/device/compute_device.h"
#include "worker/selftest/self_check.h"

namespace weft {

StatusOr<std::vector<SelfCheck>> CheckModel(const Recipe& recipe, const ComputeDevice& device);

}  // namespace weft
