#include "dataloader/rand_augment.h"

#include <algorithm>

namespace weft {
namespace {

constexpr double kMaxMagnitude = 10;
constexpr uint8_t kGray = 128;

// At magnitude 10, without a direction.
double FullStrength(PixelOp op) {
  switch (op) {
    case PixelOp::kShearX:
    case PixelOp::kShearY:
      return 0.3;
    case PixelOp::kTranslateX:
    case PixelOp::kTranslateY:
      return 10;
    case PixelOp::kRotate:
      return 30;
    default:
      return 0;
  }
}

double Strength(PixelOp op, int magnitude, bool negative) {
  const double level = magnitude / kMaxMagnitude;
  if (op == PixelOp::kBrightness || op == PixelOp::kSharpness) return level * 1.8 + 0.1;
  const double strength = level * FullStrength(op);
  return negative ? -strength : strength;
}

}  // namespace

DrawnOps DrawRandAugment(const RandAugmentRecipe& recipe, const KeyedRandom& random,
                         uint64_t sample_id, uint64_t element) {
  DrawnOps drawn;
  const auto operations = std::min(kMaxOps, static_cast<size_t>(recipe.operations()));
  for (size_t i = 0; i < operations; ++i, element += 4) {
    const auto op = static_cast<PixelOp>(random.Below(kNumPixelOps, sample_id, element));
    if (random.Uniform(sample_id, element + 1) >= 0.5) continue;
    const bool negative = random.Uniform(sample_id, element + 2) >= 0.5;
    drawn.ops[drawn.count++] = {op, Strength(op, recipe.magnitude(), negative)};
  }
  return drawn;
}

void ApplyOp(const DrawnOp& op, const PixelPlanes& planes, std::vector<uint8_t>* scratch) {
  const double s = op.strength;
  // The papers' code holds shears and shifts in fp32.
  const double narrow = static_cast<float>(s);
  switch (op.op) {
    case PixelOp::kIdentity:
      return;
    case PixelOp::kAutoContrast:
      return AutoContrast(planes);
    case PixelOp::kEqualize:
      return Equalize(planes);
    case PixelOp::kBrightness:
      return AdjustBrightness(s, planes);
    case PixelOp::kSharpness:
      return AdjustSharpness(s, planes, scratch);
    case PixelOp::kShearX:
      return Warp({1, narrow, 0, 0, 1, 0}, kGray, planes, scratch);
    case PixelOp::kShearY:
      return Warp({1, 0, 0, narrow, 1, 0}, kGray, planes, scratch);
    case PixelOp::kTranslateX:
      return Warp({1, 0, -narrow, 0, 1, 0}, kGray, planes, scratch);
    case PixelOp::kTranslateY:
      return Warp({1, 0, 0, 0, 1, -narrow}, kGray, planes, scratch);
    case PixelOp::kRotate:
      return Warp(Rotation(s, planes.width, planes.height), kGray, planes, scratch);
  }
}

}  // namespace weft
