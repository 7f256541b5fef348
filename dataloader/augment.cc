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
constexpr uint64_t kRandAugmentElement = 128;

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
  WEFT_RETURN_IF_ERROR(CheckField(recipe.jitter_saturation() >= 0, "jitter_saturation",
                                  recipe.jitter_saturation(), "is negative"));
  return CheckField(recipe.min_rows() > 0 && recipe.min_rows() <= 1, "min_rows", recipe.min_rows(),
                    "is not in (0, 1]");
}

Augmentation DrawAugmentation(const AugmentRecipe& recipe, const KeyedRandom& random,
                              uint64_t sample_id, int width, int height) {
  Augmentation out;
  const bool whole = recipe.scale_min() == 1 && recipe.scale_max() == 1 &&
                     recipe.ratio_min() == 1 && recipe.ratio_max() == 1;
  if (whole) {
    out.fit = Fit::kCentre;
  } else {
    DrawCrop(recipe, random, sample_id, width, height, &out);
  }
  out.ops = DrawRandAugment(recipe.rand_augment(), random, sample_id, kRandAugmentElement);
  out.flip = random.Uniform(sample_id, kFlipElement) < recipe.flip_probability();
  out.brightness = DrawFactor(recipe.jitter_brightness(), random, sample_id, kJitterElement);
  out.contrast = DrawFactor(recipe.jitter_contrast(), random, sample_id, kJitterElement + 1);
  out.saturation = DrawFactor(recipe.jitter_saturation(), random, sample_id, kJitterElement + 2);
  return out;
}

void JitterColors(const Augmentation& augmentation, const PixelPlanes& planes) {
  if (augmentation.brightness != 1) AdjustBrightness(augmentation.brightness, planes);
  if (augmentation.contrast != 1) AdjustContrast(augmentation.contrast, planes);
  if (augmentation.saturation != 1) AdjustSaturation(augmentation.saturation, planes);
}

ImageCooker::ImageCooker(const AugmentRecipe& recipe)
    : mode_(recipe.image_mode()),
      squash_(recipe.eval_resize() == AugmentRecipe::SQUASH),
      decoder_({.drop_alpha = recipe.alpha() == AugmentRecipe::DROP,
                .apply_exif = recipe.exif() == AugmentRecipe::APPLY,
                .min_rows = recipe.min_rows()}) {}

Status ImageCooker::CookForTraining(std::string_view bytes, const AugmentRecipe& recipe,
                                    const KeyedRandom& random, uint64_t sample_id, int size,
                                    uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, decoder_.Info(bytes));
  return Cook(bytes, info, DrawAugmentation(recipe, random, sample_id, info.width, info.height),
              size, planes);
}

Status ImageCooker::CookForEval(std::string_view bytes, int size, uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, decoder_.Info(bytes));
  Augmentation whole;
  whole.fit = squash_ ? Fit::kBox : Fit::kCentre;
  whole.width = info.width;
  whole.height = info.height;
  return Cook(bytes, info, whole, size, planes);
}

Status ImageCooker::CookPadded(std::string_view bytes, const std::array<uint8_t, 3>& colour,
                               int size, uint8_t* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, decoder_.Info(bytes));
  const int longer = std::max(info.width, info.height);
  WEFT_RETURN_IF_ERROR(decoder_.Decode(bytes, ChooseShrink(info, longer, size), &image_));
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

// In the order of the paper's code, whose roundings it has.
PictureSize ShorterSideSize(int width, int height, int shorter, int longer, int divisor) {
  double scale = shorter / static_cast<double>(std::min(width, height));
  double new_width = height < width ? scale * width : shorter;
  double new_height = height < width ? shorter : scale * height;
  if (std::max(new_width, new_height) > longer) {
    scale = longer / std::max(new_width, new_height);
    new_width *= scale;
    new_height *= scale;
  }
  const auto whole = [&](double side) {
    return std::max(divisor, static_cast<int>(side + 0.5) / divisor * divisor);
  };
  return {whole(new_width), whole(new_height)};
}

StatusOr<PictureSize> ImageCooker::CookShorterSide(std::string_view bytes, int shorter, int longer,
                                                   int divisor, std::vector<uint8_t>* planes) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, decoder_.Info(bytes));
  const PictureSize size = ShorterSideSize(info.width, info.height, shorter, longer, divisor);
  const double scale = std::min(info.width / static_cast<double>(size.width),
                                info.height / static_cast<double>(size.height));
  WEFT_RETURN_IF_ERROR(decoder_.Decode(bytes, ChooseShrink(info, scale, 1), &image_));
  planes->resize(3 * static_cast<size_t>(size.width) * static_cast<size_t>(size.height));
  const ResizeAxis x{0,         static_cast<double>(image_.width), 0, image_.width, size.width, 0,
                     size.width};
  const ResizeAxis y{
      0, static_cast<double>(image_.height), 0, image_.height, size.height, 0, size.height};
  resizer_.ToPlanes(image_, x, y, ResizeFilter::kBicubic, false, planes->data());
  return size;
}

int ImageCooker::ChooseShrink(const ImageInfo& info, double needed, int size) const {
  return info.format == ImageFormat::kJpeg && mode_ != ImageMode::EXACT ? Shrink(needed, size) : 1;
}

ImageCooker::Geometry ImageCooker::Place(const ImageInfo& info, const Augmentation& augmentation,
                                         int size) const {
  Geometry out;
  const int shorter = std::min(info.width, info.height);
  const int needed = augmentation.fit == Fit::kCentre
                         ? shorter
                         : std::min(augmentation.width, augmentation.height);
  out.shrink = ChooseShrink(info, needed, size);
  const int width = (info.width + out.shrink - 1) / out.shrink;
  const int height = (info.height + out.shrink - 1) / out.shrink;
  if (augmentation.fit == Fit::kCentre) {
    // torchvision: the longer side becomes int(size * longer / shorter), the crop starts at round((longer - size) / 2).
    const auto axis = [&](int length, int extent) {
      const int full = static_cast<int>(static_cast<int64_t>(size) * length / shorter);
      return ResizeAxis{0,    static_cast<double>(extent), 0,   extent,
                        full, Round((full - size) / 2.0),  size};
    };
    out.x = axis(info.width, width);
    out.y = axis(info.height, height);
  } else if (mode_ == ImageMode::EXACT) {
    // Pillow cuts the box out first: nothing beside it has a say, and it begins at 0.
    const auto axis = [&](int length) {
      return ResizeAxis{0, static_cast<double>(length), 0, length, size, 0, size};
    };
    out.x = axis(augmentation.width);
    out.y = axis(augmentation.height);
    out.left = augmentation.left;
    out.top = augmentation.top;
  } else {
    // The box in the decoded image, which may be a shrunken one; whole pixels that it touches are looked at.
    const auto axis = [&](int begin, int length, int extent, int full_extent) {
      const double ratio = static_cast<double>(extent) / full_extent;
      const double first = begin * ratio;
      const double last = std::min((begin + length) * ratio, static_cast<double>(extent));
      return ResizeAxis{
          first, last, static_cast<int>(first), static_cast<int>(std::ceil(last)), size, 0, size};
    };
    out.x = axis(augmentation.left, augmentation.width, width, info.width);
    out.y = axis(augmentation.top, augmentation.height, height, info.height);
  }
  return out;
}

bool ImageCooker::CookYcc(std::string_view bytes, const Geometry& geometry, bool flip,
                          uint8_t* planes) {
  jpeg::BaselineDecoder* jpeg = decoder_.OpenBaseline(bytes);
  if (jpeg == nullptr || jpeg->num_planes() != 3) return false;
  jpeg->ChooseShrink(geometry.shrink);
  const int step_x = jpeg->chroma_step_x();
  const int step_y = jpeg->chroma_step_y();
  resizer_.Plan(geometry.x, geometry.y, ResizeFilter::kBicubic, ResizePrecision::kNarrow);
  // A chroma sample stands for `step` pixels.
  const auto chroma = [](ResizeAxis axis, int step) {
    axis.begin /= step;
    axis.end /= step;
    axis.clip_begin /= step;
    axis.clip_end = (axis.clip_end + step - 1) / step;
    return axis;
  };
  chroma_resizer_.Plan(chroma(geometry.x, step_x), chroma(geometry.y, step_y),
                       ResizeFilter::kBicubic, ResizePrecision::kNarrow);
  const jpeg::Box luma_box = resizer_.needed();
  const jpeg::Box chroma_box = chroma_resizer_.needed();
  // The picture may end in the middle of a chroma sample.
  const jpeg::Box box{std::min(luma_box.left, chroma_box.left * step_x),
                      std::min(luma_box.top, chroma_box.top * step_y),
                      std::max(luma_box.right, chroma_box.right * step_x - (step_x - 1)),
                      std::max(luma_box.bottom, chroma_box.bottom * step_y - (step_y - 1))};
  if (!jpeg->Decode(geometry.shrink, box)) return false;
  const size_t pixels =
      static_cast<size_t>(geometry.x.out_size) * static_cast<size_t>(geometry.y.out_size);
  ycc_.resize(3 * pixels);
  for (int c = 0; c < 3; ++c) {
    const jpeg::Plane& plane = jpeg->plane(c);
    (c == 0 ? resizer_ : chroma_resizer_)
        .Resize({plane.rows, plane.stride, 0, plane.top}, flip,
                ycc_.data() + static_cast<size_t>(c) * pixels);
  }
  jpeg::YccToRgb(ycc_.data(), ycc_.data() + pixels, ycc_.data() + 2 * pixels,
                 static_cast<int>(pixels), planes, planes + pixels, planes + 2 * pixels);
  return true;
}

Status ImageCooker::Cook(std::string_view bytes, const ImageInfo& info,
                         const Augmentation& augmentation, int size, uint8_t* planes) {
  const Geometry geometry = Place(info, augmentation, size);
  const int64_t pixels = static_cast<int64_t>(size) * size;
  const bool is_jpeg = info.format == ImageFormat::kJpeg;
  if (!(mode_ == ImageMode::FAST && is_jpeg &&
        CookYcc(bytes, geometry, augmentation.flip, planes))) {
    resizer_.Plan(geometry.x, geometry.y, ResizeFilter::kBicubic);
    const jpeg::Box needed = resizer_.needed();
    const jpeg::Box box{needed.left + geometry.left, needed.top + geometry.top,
                        needed.right + geometry.left, needed.bottom + geometry.top};
    WEFT_RETURN_IF_ERROR(decoder_.DecodeBox(bytes, geometry.shrink, box, &box_));
    for (size_t c = 0; c < 3; ++c) {
      const PlaneView view{box_.plane(c), static_cast<size_t>(box.width()), needed.left,
                           needed.top};
      resizer_.Resize(view, augmentation.flip, planes + c * static_cast<size_t>(pixels));
    }
  }
  const PixelPlanes whole{planes, size, size};
  for (const DrawnOp& op : augmentation.ops) ApplyOp(op, whole, &scratch_);
  JitterColors(augmentation, whole);
  return OkStatus();
}

}  // namespace weft
