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

// To 22 bits, half away from zero. At the picture's edges a weight may be above 1, never near 2, which the kernels have no
// room for.
int32_t ToFixed(double w) {
  constexpr double kOne = 1 << kWeightBits;
  constexpr int32_t kMost = 127 << (kWeightBits - 6);
  return std::clamp(static_cast<int32_t>(w < 0 ? w * kOne - 0.5 : w * kOne + 0.5), -kMost, kMost);
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

void Resizer::Pack(ResizePrecision precision, Weights* weights) {
  QuadWeights& out = weights->quads;
  out.bits = precision == ResizePrecision::kNarrow ? kNarrowBits : kWeightBits;
  out.size = weights->first.size();
  out.quads = 0;
  for (size_t i = 0; i < out.size; ++i) {
    const int begin = weights->first[i] - weights->begin;
    out.quads = std::max(out.quads, static_cast<size_t>((begin % 4 + weights->count[i] + 3) / 4));
  }
  out.stride = out.quads * kernels_.words_per_quad(out.bits);
  out.firsts.resize(out.size);
  out.words.resize(out.size * out.stride);
  const size_t last = static_cast<size_t>(weights->end - weights->begin + 3) / 4 - out.quads;
  const int shift = kWeightBits - out.bits;
  const int32_t half = shift > 0 ? 1 << (shift - 1) : 0;
  for (size_t i = 0; i < out.size; ++i) {
    const auto begin = static_cast<size_t>(weights->first[i] - weights->begin);
    const size_t first = std::min(begin / 4, last);
    const int32_t* values = weights->values.data() + i * weights->stride;
    padded_.assign(4 * out.quads, 0);
    for (size_t j = 0; j < static_cast<size_t>(weights->count[i]); ++j)
      padded_[begin - 4 * first + j] = (values[j] + half) >> shift;
    out.firsts[i] = static_cast<uint32_t>(first);
    kernels_.pack(padded_.data(), out.quads, out.bits, out.words.data() + i * out.stride);
  }
}

void Resizer::Plan(const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
                   ResizePrecision precision) {
  for (auto [axis, weights] : {std::pair(&x, &x_), {&y, &y_}}) {
    ComputeWeights(*axis, filter, weights);
    Pack(precision, weights);
  }
}

jpeg::Box Resizer::needed() const { return {x_.begin, y_.begin, x_.end, y_.end}; }

void Resizer::FillTile(const uint8_t* rows, size_t stride, size_t num_rows, size_t columns) {
  const uint8_t* in[kTileRows];
  const size_t whole = columns / 4;
  for (size_t r = 0; r < kTileRows; ++r) in[r] = rows + std::min(r, num_rows - 1) * stride;
  kernels_.gather(in, whole, tile_.data());
  if (columns % 4 == 0) return;
  edge_.assign(4 * kTileRows, 0);
  for (size_t r = 0; r < kTileRows; ++r) {
    std::copy_n(in[r] + 4 * whole, columns % 4, edge_.data() + 4 * r);
    in[r] = edge_.data() + 4 * r;
  }
  kernels_.gather(in, 1, tile_.data() + whole * kTileRows);
}

void Resizer::Resize(const PlaneView& plane, bool flip, uint8_t* out) {
  const auto columns = static_cast<size_t>(x_.end - x_.begin);
  const auto rows = static_cast<size_t>(y_.end - y_.begin);
  const size_t width = x_.quads.size;
  const size_t stride = (width + 3) / 4 * 4;
  const size_t tiles = (rows + kTileRows - 1) / kTileRows;
  Reserve((columns + 3) / 4 * kTileRows, &tile_);
  Reserve(tiles * kTileRows / 4 * stride + kColumnsAhead, &rows_);
  const uint8_t* in = plane.pixels + static_cast<size_t>(y_.begin - plane.top) * plane.stride +
                      static_cast<size_t>(x_.begin - plane.left);
  for (size_t tile = 0; tile < tiles; ++tile) {
    const size_t row = tile * kTileRows;
    FillTile(in + row * plane.stride, plane.stride, std::min(kTileRows, rows - row), columns);
    kernels_.horizontal(tile_.data(), x_.quads, flip, {rows_.data() + row / 4 * stride, stride});
  }
  for (size_t i = 0; i < y_.quads.size; ++i)
    kernels_.vertical({rows_.data(), stride}, width, y_.quads, i, out + i * width);
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
