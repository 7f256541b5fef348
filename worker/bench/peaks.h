// What a device can do at most, measured: the denominators of MFU and of bandwidth figures.
//
// Thread rule: the thread that has entered the device.
#pragma once

#include <string>
#include <vector>

#include "parallel/device/compute_device.h"

namespace weft {

struct Peak {
  std::string name;  // "matmul bf16"
  double value = 0;
  std::string unit;  // "TFLOP/s", "GB/s"
};

// Multiplications and additions a second of square matrix products of this type, the best of a few.
double MatmulFlops(const ComputeDevice& device, at::ScalarType type);
// Products in bf16, fp32 and fp64, copies on the device and from pinned memory to it.
std::vector<Peak> MeasurePeaks(const ComputeDevice& device);

}  // namespace weft
