#include "models/layers/patches.h"

namespace weft {

at::Tensor Patches(const at::Tensor& pixels, int64_t patch_size, const PixelNorm& norm,
                   at::ScalarType type) {
  const int64_t b = pixels.size(0);
  const int64_t channels = pixels.size(1);
  const int64_t grid = pixels.size(2) / patch_size;
  at::Tensor x = pixels;
  if (pixels.scalar_type() == at::kByte) {
    const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
    x = x.to(wide);
    // Channel by channel, so that no table has to be brought to a device.
    for (size_t c = 0; c < 3; ++c) {
      x.select(1, static_cast<int64_t>(c))
          .mul_(1 / (255 * norm.std[c]))
          .add_(-norm.mean[c] / norm.std[c]);
    }
  }
  return x.to(type)
      .view({b, channels, grid, patch_size, grid, patch_size})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({b, grid * grid, channels * patch_size * patch_size});
}

}  // namespace weft
