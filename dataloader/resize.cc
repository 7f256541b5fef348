#include "dataloader/resize.h"

#include <algorithm>
#include <cmath>

namespace weft {
namespace {

// Weights are integers of this many fraction bits: 8 bits of data and 2 bits of overshoot fit beside them in 32.
constexpr int kPrecision = 32 - 8 - 2;
constexpr int32_t kHalf = 1 << (kPrecision - 1);

uint8_t ToByte(int32_t sum) {
  const int32_t value = sum >> kPrecision;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

}  // namespace

void Resizer::ComputeWeights(const ResizeAxis& axis, ResizeFilter filter, Weights* weights) {
  const double scale = (axis.end - axis.begin) / axis.full_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (filter == ResizeFilter::kBicubic ? 2.0 : 0.5) * filter_scale;
  const auto out_size = static_cast<size_t>(axis.out_size);
  weights->stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  const auto stride = static_cast<size_t>(weights->stride);
  weights->first.resize(out_size);
  weights->count.resize(out_size);
  weights->values.assign(out_size * stride, 0);
  std::vector<double> exact(stride);
  for (size_t i = 0; i < out_size; ++i) {
    const double center = axis.begin + (axis.out_begin + static_cast<double>(i) + 0.5) * scale;
    const int first = std::max(axis.clip_begin, static_cast<int>(center - support + 0.5));
    const int last = std::min(axis.clip_end, static_cast<int>(center + support + 0.5));
    const int count = std::clamp(last - first, 0, weights->stride);
    double sum = 0;
    for (int j = 0; j < count; ++j) {
      const double distance = (first + j - center + 0.5) / filter_scale;
      const double w = filter == ResizeFilter::kBicubic ? Bicubic(distance) : Box(distance);
      exact[static_cast<size_t>(j)] = w;
      sum += w;
    }
    weights->first[i] = first;
    weights->count[i] = count;
    for (int j = 0; j < count; ++j) {
      const double w = sum == 0 ? 0.0 : exact[static_cast<size_t>(j)] / sum;
      weights->values[i * stride + static_cast<size_t>(j)] =
          static_cast<int32_t>(std::lround(w * (1 << kPrecision)));
    }
  }
}

void Resizer::HorizontalPass(const Image& image, int row_begin, int row_end, int out_width) {
  rows_.resize(static_cast<size_t>(row_end - row_begin) * static_cast<size_t>(out_width) * 3);
  uint8_t* out = rows_.data();
  const size_t in_stride = static_cast<size_t>(image.width) * 3;
  for (int row = row_begin; row < row_end; ++row) {
    const uint8_t* in_row = image.rgb.data() + static_cast<size_t>(row) * in_stride;
    for (size_t i = 0; i < static_cast<size_t>(out_width); ++i, out += 3) {
      const uint8_t* in = in_row + static_cast<size_t>(x_.first[i]) * 3;
      const int32_t* w = x_.values.data() + i * static_cast<size_t>(x_.stride);
      int32_t r = kHalf;
      int32_t g = kHalf;
      int32_t b = kHalf;
      for (int j = 0; j < x_.count[i]; ++j, in += 3) {
        r += w[j] * in[0];
        g += w[j] * in[1];
        b += w[j] * in[2];
      }
      out[0] = ToByte(r);
      out[1] = ToByte(g);
      out[2] = ToByte(b);
    }
  }
}

void Resizer::VerticalPass(int row_begin, int out_width, int out_height, bool flip,
                           uint8_t* planes) const {
  const size_t width = static_cast<size_t>(out_width);
  const size_t plane = width * static_cast<size_t>(out_height);
  std::vector<int32_t> sums(3 * width);
  for (size_t i = 0; i < static_cast<size_t>(out_height); ++i) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const int32_t* w = y_.values.data() + i * static_cast<size_t>(y_.stride);
    const uint8_t* in = rows_.data() + static_cast<size_t>(y_.first[i] - row_begin) * 3 * width;
    for (int j = 0; j < y_.count[i]; ++j, in += 3 * width) {
      const int32_t weight = w[j];
      for (size_t k = 0; k < 3 * width; ++k) sums[k] += weight * in[k];
    }
    uint8_t* out = planes + i * width;
    for (size_t k = 0; k < width; ++k) {
      const size_t column = flip ? width - 1 - k : k;
      for (size_t c = 0; c < 3; ++c) out[c * plane + column] = ToByte(sums[3 * k + c]);
    }
  }
}

void Resizer::ToPlanes(const Image& image, const ResizeAxis& x, const ResizeAxis& y,
                       ResizeFilter filter, bool flip, uint8_t* planes) {
  ComputeWeights(x, filter, &x_);
  ComputeWeights(y, filter, &y_);
  // Only the rows that the vertical pass will read.
  int row_begin = y.clip_end;
  int row_end = y.clip_begin;
  for (size_t i = 0; i < y_.first.size(); ++i) {
    row_begin = std::min(row_begin, y_.first[i]);
    row_end = std::max(row_end, y_.first[i] + y_.count[i]);
  }
  HorizontalPass(image, row_begin, row_end, x.out_size);
  VerticalPass(row_begin, x.out_size, y.out_size, flip, planes);
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
