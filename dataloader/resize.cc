#include "dataloader/resize.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace weft {
namespace {

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double Bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double Weigh(ResizeFilter filter, double x) {
  switch (filter) {
    case ResizeFilter::kBicubic:
      return Bicubic(x);
    case ResizeFilter::kBilinear:
      return Bilinear(x);
    case ResizeFilter::kBox:
      break;
  }
  return Box(x);
}

double Support(ResizeFilter filter) {
  return filter == ResizeFilter::kBicubic ? 2.0 : filter == ResizeFilter::kBilinear ? 1.0 : 0.5;
}

// To 22 bits, half away from zero.
int32_t ToFixed(double w) {
  constexpr double kOne = 1 << kWeightBits;
  return static_cast<int32_t>(w < 0 ? w * kOne - 0.5 : w * kOne + 0.5);
}

template <typename T>
void Reserve(size_t size, std::vector<T>* vector) {
  if (vector->size() < size) vector->resize(size);
}

}  // namespace

void Resizer::ComputeWeights(const ResizeAxis& axis, ResizeFilter filter, Weights* weights) {
  const double scale = (axis.end - axis.begin) / axis.full_size;
  const double filter_scale = std::max(scale, 1.0);
  const double inverse = 1.0 / filter_scale;
  const double support = Support(filter) * filter_scale;
  const auto out_size = static_cast<size_t>(axis.out_size);
  const auto stride = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  weights->stride = stride;
  weights->first.resize(out_size);
  weights->count.resize(out_size);
  weights->values.resize(out_size * stride);
  weights->begin = axis.clip_end;
  weights->end = axis.clip_begin;
  Reserve(stride, &exact_);
  for (size_t i = 0; i < out_size; ++i) {
    const double center = axis.begin + (axis.out_begin + static_cast<double>(i) + 0.5) * scale;
    const int first = std::max(axis.clip_begin, static_cast<int>(center - support + 0.5));
    const int last = std::min(axis.clip_end, static_cast<int>(center + support + 0.5));
    const int count = std::clamp(last - first, 0, static_cast<int>(stride));
    double sum = 0;
    for (int j = 0; j < count; ++j) {
      const double w = Weigh(filter, (j + first - center + 0.5) * inverse);
      exact_[static_cast<size_t>(j)] = w;
      sum += w;
    }
    weights->first[i] = first;
    weights->count[i] = count;
    weights->begin = std::min(weights->begin, first);
    weights->end = std::max(weights->end, first + count);
    for (size_t j = 0; j < static_cast<size_t>(count); ++j)
      weights->values[i * stride + j] = sum == 0 ? 0 : ToFixed(exact_[j] / sum);
  }
}

// At the picture's edges a weight may be above 1, never above 2.
void Resizer::Narrow(Weights* weights) {
  constexpr int kShift = kWeightBits - kNarrowBits;
  Reserve(weights->values.size(), &weights->narrow);
  for (size_t i = 0; i < weights->values.size(); ++i) {
    const int32_t rounded = (weights->values[i] + (1 << (kShift - 1))) >> kShift;
    weights->narrow[i] = static_cast<int16_t>(std::clamp(rounded, INT16_MIN, INT16_MAX));
  }
}

void Resizer::Plan(const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
                   ResizePrecision precision) {
  for (auto [axis, weights] : {std::pair(&x, &x_), {&y, &y_}}) {
    ComputeWeights(*axis, filter, weights);
    weights->is_narrow = precision == ResizePrecision::kNarrow;
    if (weights->is_narrow) Narrow(weights);
  }
}

jpeg::Box Resizer::needed() const { return {x_.begin, y_.begin, x_.end, y_.end}; }

void Resizer::Resize(const PlaneView& plane, bool flip, uint8_t* out) {
  const AxisWeights x = x_.View();
  const AxisWeights y = y_.View();
  const auto columns = static_cast<size_t>(x_.end - x_.begin);
  const auto rows = static_cast<size_t>(y_.end - y_.begin);
  const size_t width = x.size;
  Reserve(rows * width, &rows_);
  Reserve((columns + 16) * kTileRows, &tile_in_);
  Reserve(width * kTileRows, &tile_out_);
  const uint8_t* in = plane.pixels + static_cast<size_t>(y_.begin - plane.top) * plane.stride +
                      static_cast<size_t>(x_.begin - plane.left);
  const bool narrow = x.narrow != nullptr;
  if (narrow) Reserve(tile_in_.size(), &wide_tile_);
  if (narrow) Reserve(rows * width, &wide_rows_);
  for (size_t row = 0; row < rows; row += kTileRows) {
    const size_t num_rows = std::min(kTileRows, rows - row);
    TransposeIn(in + row * plane.stride, plane.stride, num_rows, columns, tile_in_.data());
    if (narrow) {
      Widen(tile_in_.data(), columns * kTileRows, wide_tile_.data());
      ResizeTileNarrow(wide_tile_.data(), x_.begin, x, flip, tile_out_.data());
    } else {
      ResizeTile(tile_in_.data(), x_.begin, x, flip, tile_out_.data());
    }
    TransposeOut(tile_out_.data(), width, num_rows, rows_.data() + row * width, width);
  }
  if (narrow) Widen(rows_.data(), rows * width, wide_rows_.data());
  for (size_t i = 0; i < y.size; ++i) {
    if (narrow) {
      ResizeColumnsNarrow(wide_rows_.data(), width, y_.begin, y, i, out + i * width);
    } else {
      ResizeColumns(rows_.data(), width, y_.begin, y, i, out + i * width);
    }
  }
}

void Resizer::ToPlanes(const Image& image, const ResizeAxis& x, const ResizeAxis& y,
                       ResizeFilter filter, bool flip, uint8_t* planes) {
  Plan(x, y, filter);
  const jpeg::Box box = needed();
  const auto width = static_cast<size_t>(box.width());
  const size_t out_size = static_cast<size_t>(x.out_size) * static_cast<size_t>(y.out_size);
  Reserve(width * static_cast<size_t>(box.height()), &plane_);
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* to = plane_.data();
    for (int row = box.top; row < box.bottom; ++row) {
      const uint8_t* from = image.rgb.data() + c +
                            3 * (static_cast<size_t>(row) * static_cast<size_t>(image.width) +
                                 static_cast<size_t>(box.left));
      for (size_t i = 0; i < width; ++i) *to++ = from[3 * i];
    }
    Resize({plane_.data(), width, box.left, box.top}, flip, planes + c * out_size);
  }
}

Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter) {
  const ResizeAxis x{0, static_cast<double>(image.width), 0, image.width, width, 0, width};
  const ResizeAxis y{0, static_cast<double>(image.height), 0, image.height, height, 0, height};
  const size_t plane = static_cast<size_t>(width) * static_cast<size_t>(height);
  std::vector<uint8_t> planes(3 * plane);
  Resizer().ToPlanes(image, x, y, filter, false, planes.data());
  Image out{width, height, std::vector<uint8_t>(3 * plane)};
  for (size_t i = 0; i < plane; ++i) {
    for (size_t c = 0; c < 3; ++c) out.rgb[3 * i + c] = planes[c * plane + i];
  }
  return out;
}

}  // namespace weft
