// The resize's kernels with AVX2, and with AVX-512 VNNI: what this machine has of them, the slower first.
#pragma once

#include <vector>

#include "dataloader/resize_kernels.h"

namespace weft {

std::vector<ResizeKernels> X86ResizeKernels();

}  // namespace weft
