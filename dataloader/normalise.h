// From 8-bit planes to what the recipe's data.augment.pixel_type says leaves the loader.
//
// Bit for bit what a model makes of 8-bit pixels in fp32: x / (255 std) - mean / std, factor and sum rounded to fp32; bf16
// rounds that to even. Thread rule: a value; Write is pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "cluster/config/recipe.pb.h"
#include "dataloader/micro_batch.h"

namespace weft {

class PixelWriter {
 public:
  explicit PixelWriter(const AugmentRecipe& recipe);

  FieldType type() const { return type_; }
  // Three planes of `pixels` bytes each; `out` has as many elements of type() and is another place.
  void Write(const uint8_t* planes, size_t pixels, uint8_t* out) const;

 private:
  FieldType type_;
  std::array<float, 3> scale_{};
  std::array<float, 3> shift_{};
};

}  // namespace weft
