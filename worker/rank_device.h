// The device that the coordinator chose for this rank, and the process made ready for it.
//
// Errors: FailedPrecondition for a device that is not there. Thread rule: the training thread, before it computes anything.
#pragma once

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/device/compute_device.h"

namespace weft {

// `gpu`: as in control::Start. On a GPU and with recipe.deterministic, LibTorch throws where it has no kernel of fixed order,
// and cuBLAS gets a workspace of fixed size (CUBLAS_WORKSPACE_CONFIG, unless it is set). Nothing changes for the CPU.
StatusOr<ComputeDevice> OpenRankDevice(const Recipe& recipe, int gpu);

}  // namespace weft
