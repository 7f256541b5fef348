// Images to the rows that a patch projection multiplies.
//
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace weft {

// Channel mean and standard deviation of pixels in [0, 1].
struct PixelNorm {
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std{0.26862954, 0.26130258, 0.27577711};
};

// pixels [b, 3, s, s]: u8 are normalised, floating-point ones are taken as they are. Result [b, (s/p)^2, 3 p p] in `type`,
// patches by rows, elements in the order (channel, y, x) of a convolution's weight: x @ W.flatten(1)^T is the convolution.
at::Tensor Patches(const at::Tensor& pixels, int64_t patch_size, const PixelNorm& norm,
                   at::ScalarType type);

}  // namespace weft
