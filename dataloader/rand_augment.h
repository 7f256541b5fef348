// RandAugment (Cubuk et al. 2020) in the form that ALBEF, BLIP and BEiT-3 share: ten operations, each that is drawn is done
// with probability 1/2, those with a direction in either one.
//
// The operations are dataloader/pixel_ops.h's; shears and shifts of the papers' strengths, grey (128) where nothing lies.
// Thread rule: DrawRandAugment is pure; scratch belongs to the caller.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cluster/base/philox.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/pixel_ops.h"

namespace weft {

enum class PixelOp {
  kIdentity,
  kAutoContrast,
  kEqualize,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kRotate,
};
constexpr int kNumPixelOps = 10;

struct DrawnOp {
  PixelOp op = PixelOp::kIdentity;
  // Enhancement factor, shear, pixels or degrees.
  double strength = 0;
};

// At most data.augment.rand_augment.operations, kept without allocating.
constexpr size_t kMaxOps = 16;
struct DrawnOps {
  const DrawnOp* begin() const { return ops.data(); }
  const DrawnOp* end() const { return ops.data() + count; }

  std::array<DrawnOp, kMaxOps> ops;
  size_t count = 0;
};

// Those that are done, in their order. `element`: the first of 4 * recipe.operations() elements of the sample.
DrawnOps DrawRandAugment(const RandAugmentRecipe& recipe, const KeyedRandom& random,
                         uint64_t sample_id, uint64_t element);

void ApplyOp(const DrawnOp& op, const PixelPlanes& planes, std::vector<uint8_t>* scratch);

}  // namespace weft
