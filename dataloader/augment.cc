#include "dataloader/augment.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace weft {
namespace {

constexpr uint64_t kTries = 10;
// Elements of a sample's draws: 4 a try of the crop, then these.
constexpr uint64_t kFlipElement = 64;
constexpr uint64_t kJitterElement = 65;

// Python's round(): half to even, which is the default rounding mode.
int Round(double x) { return static_cast<int>(std::nearbyint(x)); }

// torchvision's RandomResizedCrop.get_params.
void DrawCrop(const AugmentRecipe& recipe, const KeyedRandom& random, uint64_t id, int width,
              int height, Augmentation* out) {
  const double area = static_cast<double>(width) * height;
  const double log_min = std::log(recipe.ratio_min());
  const double log_max = std::log(recipe.ratio_max());
  for (uint64_t attempt = 0; attempt < kTries; ++attempt) {
    const uint64_t element = 4 * attempt;
    const double scale = recipe.scale_min() +
                         (recipe.scale_max() - recipe.scale_min()) * random.Uniform(id, element);
    const double aspect = std::exp(log_min + (log_max - log_min) * random.Uniform(id, element + 1));
    const int w = Round(std::sqrt(area * scale * aspect));
    const int h = Round(std::sqrt(area * scale / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    out->width = w;
    out->height = h;
    out->top =
        static_cast<int>(random.Below(static_cast<uint64_t>(height - h + 1), id, element + 2));
    out->left =
        static_cast<int>(random.Below(static_cast<uint64_t>(width - w + 1), id, element + 3));
    return;
  }
  // The largest centred box with an allowed aspect.
  const double aspect = static_cast<double>(width) / height;
  out->width = width;
  out->height = height;
  if (aspect < recipe.ratio_min()) {
    out->height = std::clamp(Round(width / recipe.ratio_min()), 1, height);
  } else if (aspect > recipe.ratio_max()) {
    out->width = std::clamp(Round(height * recipe.ratio_max()), 1, width);
  }
  out->top = (height - out->height) / 2;
  out->left = (width - out->width) / 2;
}

double DrawFactor(double strength, const KeyedRandom& random, uint64_t id, uint64_t element) {
  if (strength <= 0) return 1;
  const double low = std::max(0.0, 1 - strength);
  return low + (1 + strength - low) * random.Uniform(id, element);
}

// ITU-R 601 luma, as Pillow computes it.
int Luma(int r, int g, int b) { return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; }

// other + factor * (value - other), with the factor in 16 fraction bits.
uint8_t Blend(int value, int other, int64_t factor) {
  const int64_t mixed = other + ((factor * (value - other) + 0x8000) >> 16);
  return static_cast<uint8_t>(std::clamp<int64_t>(mixed, 0, 255));
}

int64_t FixedFactor(double factor) { return std::llround(factor * 65536); }

Status CheckField(bool good, const char* field, double value, const char* rule) {
  if (good) return OkStatus();
  return InvalidArgument(std::string("data.augment.") + field + ": " + std::to_string(value) + " " +
                         rule);
}

// The largest power of two that leaves at least `size` of `extent`.
int Shrink(double extent, int size) {
  int shrink = 1;
  while (shrink < 8 && extent / (2 * shrink) >= size) shrink *= 2;
  return shrink;
}

}  // namespace

Status ValidateAugment(const AugmentRecipe& recipe) {
  const double probability = recipe.flip_probability();
  WEFT_RETURN_IF_ERROR(CheckField(recipe.scale_min() > 0 && recipe.scale_min() <= 1, "scale_min",
                                  recipe.scale_min(), "is not in (0, 1]"));
  WEFT_RETURN_IF_ERROR(
      CheckField(recipe.scale_max() >= recipe.scale_min() && recipe.scale_max() <= 1, "scale_max",
                 recipe.scale_max(), "is not in [scale_min, 1]"));
  WEFT_RETURN_IF_ERROR(
      CheckField(recipe.ratio_min() > 0, "ratio_min", recipe.ratio_min(), "is not positive"));
  WEFT_RETURN_IF_ERROR(CheckField(recipe.ratio_max() >= recipe.ratio_min(), "ratio_max",
                                  recipe.ratio_max(), "is below ratio_min"));
  WEFT_RETURN_IF_ERROR(CheckField(probability >= 0 && probability <= 1, "flip_probability",
                                  probability, "is not in [0, 1]"));
  WEFT_RETURN_IF_ERROR(CheckField(recipe.jitter_brightness() >= 0, "jitter_brightness",
                                  recipe.jitter_brightness(), "is negative"));
  WEFT_RETURN_IF_ERROR(CheckField(recipe.jitter_contrast() >= 0, "jitter_contrast",
                                  recipe.jitter_contrast(), "is negative"));
  return CheckField(recipe.jitter_saturation() >= 0, "jitter_saturation",
                    recipe.jitter_saturation(), "is negative");
}

Augmentation DrawAugmentation(const AugmentRecipe& recipe, const KeyedRandom& random,
                              uint64_t sample_id, int width, int height) {
  Augmentation out;
  out.center = recipe.scale_min() == 1 && recipe.scale_max() == 1 && recipe.ratio_min() == 1 &&
               recipe.ratio_max() == 1;
  if (!out.center) DrawCrop(recipe, random, sample_id, width, height, &out);
  out.flip = random.Uniform(sample_id, kFlipElement) < recipe.flip_probability();
  out.brightness = DrawFactor(recipe.jitter_brightness(), random, sample_id, kJitterElement);
  out.contrast = DrawFactor(recipe.jitter_contrast(), random, sample_id, kJitterElement + 1);
  out.saturation = DrawFactor(recipe.jitter_saturation(), random, sample_id, kJitterElement + 2);
  return out;
}

void JitterColors(const Augmentation& augmentation, int64_t pixels, uint8_t* planes) {
  const auto n = static_cast<size_t>(pixels);
  uint8_t* r = planes;
  uint8_t* g = planes + n;
  uint8_t* b = planes + 2 * n;
  if (augmentation.brightness != 1) {
    const int64_t factor = FixedFactor(augmentation.brightness);
    for (size_t i = 0; i < 3 * n; ++i) planes[i] = Blend(planes[i], 0, factor);
  }
  if (augmentation.contrast != 1) {
    const int64_t factor = FixedFactor(augmentation.contrast);
    int64_t sum = 0;
    for (size_t i = 0; i < n; ++i) sum += Luma(r[i], g[i], b[i]);
    const auto mean = static_cast<int>((sum + pixels / 2) / pixels);
    for (size_t i = 0; i < 3 * n; ++i) planes[i] = Blend(planes[i], mean, factor);
  }
  if (augmentation.saturation != 1) {
    const int64_t factor = FixedFactor(augmentation.saturation);
    for (size_t i = 0; i < n; ++i) {
      const int gray = Luma(r[i], g[i], b[i]);
      r[i] = Blend(r[i], gray, factor);
      g[i] = Blend(g[i], gray, factor);
      b[i] = Blend(b[i], gray, factor);
    }
  }
}

Status ImageCooker::CookForTraining(std::string_view bytes, const AugmentRecipe& recipe,
                                    const KeyedRandom& random, uint64_t sample_id, int size,
                                    uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, ReadImageInfo(bytes));
  return Cook(bytes, info, DrawAugmentation(recipe, random, sample_id, info.width, info.height),
              size, planes);
}

Status ImageCooker::CookForEval(std::string_view bytes, int size, uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, ReadImageInfo(bytes));
  Augmentation center;
  center.center = true;
  return Cook(bytes, info, center, size, planes);
}

Status ImageCooker::CookPadded(std::string_view bytes, const std::array<uint8_t, 3>& colour,
                               int size, uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, ReadImageInfo(bytes));
  const int longer = std::max(info.width, info.height);
  WEFT_RETURN_IF_ERROR(decoder_.Decode(bytes, Shrink(longer, size), &image_));
  const int side = std::max(image_.width, image_.height);
  const auto row_bytes = 3 * static_cast<size_t>(side);
  square_.width = side;
  square_.height = side;
  square_.rgb.resize(row_bytes * static_cast<size_t>(side));
  for (size_t i = 0; i < square_.rgb.size(); ++i) square_.rgb[i] = colour[i % 3];
  const auto left = static_cast<size_t>((side - image_.width) / 2);
  const auto top = static_cast<size_t>((side - image_.height) / 2);
  const auto image_row = 3 * static_cast<size_t>(image_.width);
  for (size_t y = 0; y < static_cast<size_t>(image_.height); ++y) {
    std::copy_n(image_.rgb.data() + y * image_row, image_row,
                square_.rgb.data() + (top + y) * row_bytes + 3 * left);
  }
  const ResizeAxis axis{0, static_cast<double>(side), 0, side, size, 0, size};
  resizer_.ToPlanes(square_, axis, axis, ResizeFilter::kBicubic, false, planes);
  return OkStatus();
}

Status ImageCooker::Cook(std::string_view bytes, const ImageInfo& info,
                         const Augmentation& augmentation, int size, uint8_t* planes) {
  const int shorter = std::min(info.width, info.height);
  const int needed =
      augmentation.center ? shorter : std::min(augmentation.width, augmentation.height);
  WEFT_RETURN_IF_ERROR(decoder_.Decode(bytes, Shrink(needed, size), &image_));
  ResizeAxis x;
  ResizeAxis y;
  if (augmentation.center) {
    // torchvision: the longer side becomes int(size * longer / shorter), the crop starts at round((longer - size) / 2).
    const auto axis = [&](int length, int extent) {
      const int full = static_cast<int>(static_cast<int64_t>(size) * length / shorter);
      return ResizeAxis{0,    static_cast<double>(extent), 0,   extent,
                        full, Round((full - size) / 2.0),  size};
    };
    x = axis(info.width, image_.width);
    y = axis(info.height, image_.height);
  } else {
    // The box in the decoded image, which may be a shrunken one; whole pixels that it touches are looked at.
    const auto axis = [&](int begin, int length, int extent, int full_extent) {
      const double ratio = static_cast<double>(extent) / full_extent;
      const double first = begin * ratio;
      const double last = std::min((begin + length) * ratio, static_cast<double>(extent));
      return ResizeAxis{
          first, last, static_cast<int>(first), static_cast<int>(std::ceil(last)), size, 0, size};
    };
    x = axis(augmentation.left, augmentation.width, image_.width, info.width);
    y = axis(augmentation.top, augmentation.height, image_.height, info.height);
  }
  resizer_.ToPlanes(image_, x, y, ResizeFilter::kBicubic, augmentation.flip, planes);
  JitterColors(augmentation, static_cast<int64_t>(size) * size, planes);
  return OkStatus();
}

}  // namespace weft
