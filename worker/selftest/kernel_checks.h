// Weft's own kernels on a device against the CPU's: equal bits, at sizes of real models. Attention over the segments of packed
// rows, which may be LibTorch's kernel, against fp64.
//
// Thread rule: the thread that has entered the device.
#pragma once

#include <vector>

#include "parallel/device/compute_device.h"
#include "worker/selftest/self_check.h"

namespace weft {

std::vector<SelfCheck> CheckKernels(const ComputeDevice& device);

}  // namespace weft
