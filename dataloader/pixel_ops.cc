#include "dataloader/pixel_ops.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "dataloader/jpeg/clones.h"

namespace weft {
namespace {

using Table = std::array<uint8_t, 256>;

// ITU-R 601 luma, as Pillow computes it.
WEFT_ALWAYS_INLINE int Luma(int r, int g, int b) {
  return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
}

// Pillow's blend of `other` with `value`: in fp32, product and sum rounded, cut towards zero. This file is compiled without
// contraction to fused operations, so all clones agree.
WEFT_ALWAYS_INLINE uint8_t Blend(int value, int other, float factor) {
  const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
  const int cut = static_cast<int>(mixed);
  return static_cast<uint8_t>(cut < 0 ? 0 : cut > 255 ? 255 : cut);
}

WEFT_PIXEL_CLONES void BlendWithConstant(uint8_t* values, size_t count, int other, float factor) {
  for (size_t i = 0; i < count; ++i) values[i] = Blend(values[i], other, factor);
}

WEFT_PIXEL_CLONES void BlendWithGray(uint8_t* __restrict red, uint8_t* __restrict green,
                                     uint8_t* __restrict blue, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) {
    const int gray = Luma(red[i], green[i], blue[i]);
    red[i] = Blend(red[i], gray, factor);
    green[i] = Blend(green[i], gray, factor);
    blue[i] = Blend(blue[i], gray, factor);
  }
}

WEFT_PIXEL_CLONES int64_t SumOfLuma(const uint8_t* red, const uint8_t* green, const uint8_t* blue,
                                    size_t count) {
  int64_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += Luma(red[i], green[i], blue[i]);
  return sum;
}

// One inner row: the mean of a pixel (five times) and its neighbours, rounded, blended with it.
WEFT_PIXEL_CLONES void SharpenRow(const uint8_t* __restrict above, const uint8_t* __restrict row,
                                  const uint8_t* __restrict below, int width, float factor,
                                  uint8_t* __restrict out) {
  for (int x = 1; x + 1 < width; ++x) {
    const int sum = above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1] +
                    below[x - 1] + below[x] + below[x + 1];
    out[x] = Blend(row[x], (2 * sum + 13) / 26, factor);
  }
}

std::array<int64_t, 256> Histogram(const uint8_t* plane, size_t count) {
  std::array<int64_t, 256> histogram{};
  for (size_t i = 0; i < count; ++i) ++histogram[plane[i]];
  return histogram;
}

void Apply(const Table& table, uint8_t* plane, size_t count) {
  for (size_t i = 0; i < count; ++i) plane[i] = table[plane[i]];
}

Affine Inverse(const Affine& m) {
  const double determinant = m[0] * m[4] - m[1] * m[3];
  const double scale = determinant != 0 ? 1 / determinant : 0;
  Affine out{m[4] * scale, m[1] * -scale, 0, m[3] * -scale, m[0] * scale, 0};
  out[2] = -out[0] * m[2] - out[1] * m[5];
  out[5] = -out[3] * m[2] - out[4] * m[5];
  return out;
}

// Source coordinates have 10 fraction bits while they are summed, 5 where pixels are weighed.
constexpr int kCoordinateBits = 10;
constexpr int kWeighBits = 5;
constexpr int kOne = 1 << kWeighBits;

int ToCoordinate(double x) { return static_cast<int>(std::lrint(x * (1 << kCoordinateBits))); }

struct WarpRow {
  int x0;  // of the row's first pixel, rounded
  int y0;
  const int* dx;  // added for each column
  const int* dy;
};

void WarpOneRow(const uint8_t* plane, int width, int height, uint8_t outside, const WarpRow& row,
                uint8_t* out) {
  constexpr int kShift = kCoordinateBits - kWeighBits;
  const auto stride = static_cast<size_t>(width);
  for (int i = 0; i < width; ++i) {
    const int fx = (row.x0 + row.dx[i]) >> kShift;
    const int fy = (row.y0 + row.dy[i]) >> kShift;
    const int x = fx >> kWeighBits;
    const int y = fy >> kWeighBits;
    const int wx = fx & (kOne - 1);
    const int wy = fy & (kOne - 1);
    int taps[4];
    if (x >= 0 && y >= 0 && x + 1 < width && y + 1 < height) {
      const uint8_t* at = plane + static_cast<size_t>(y) * stride + static_cast<size_t>(x);
      taps[0] = at[0];
      taps[1] = at[1];
      taps[2] = at[stride];
      taps[3] = at[stride + 1];
    } else {
      for (int k = 0; k < 4; ++k) {
        const int tx = x + (k & 1);
        const int ty = y + (k >> 1);
        const bool inside = tx >= 0 && ty >= 0 && tx < width && ty < height;
        taps[k] =
            inside ? plane[static_cast<size_t>(ty) * stride + static_cast<size_t>(tx)] : outside;
      }
    }
    const int top = taps[0] * (kOne - wx) + taps[1] * wx;
    const int bottom = taps[2] * (kOne - wx) + taps[3] * wx;
    const int sum = top * (kOne - wy) + bottom * wy;
    out[i] = static_cast<uint8_t>((sum + kOne * kOne / 2) >> (2 * kWeighBits));
  }
}

}  // namespace

void AdjustBrightness(double factor, const PixelPlanes& planes) {
  BlendWithConstant(planes.data, 3 * planes.pixels(), 0, static_cast<float>(factor));
}

void AdjustContrast(double factor, const PixelPlanes& planes) {
  const auto count = static_cast<int64_t>(planes.pixels());
  const int64_t sum = SumOfLuma(planes.red(), planes.green(), planes.blue(), planes.pixels());
  const auto mean = static_cast<int>((2 * sum + count) / (2 * count));
  BlendWithConstant(planes.data, 3 * planes.pixels(), mean, static_cast<float>(factor));
}

void AdjustSaturation(double factor, const PixelPlanes& planes) {
  BlendWithGray(planes.red(), planes.green(), planes.blue(), planes.pixels(),
                static_cast<float>(factor));
}

void AdjustSharpness(double factor, const PixelPlanes& planes, std::vector<uint8_t>* scratch) {
  const auto width = static_cast<size_t>(planes.width);
  const size_t count = planes.pixels();
  scratch->resize(std::max(scratch->size(), count));
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* plane = planes.data + c * count;
    std::copy_n(plane, count, scratch->data());
    for (int y = 1; y + 1 < planes.height; ++y) {
      const uint8_t* row = scratch->data() + static_cast<size_t>(y) * width;
      SharpenRow(row - width, row, row + width, planes.width, static_cast<float>(factor),
                 plane + static_cast<size_t>(y) * width);
    }
  }
}

void AutoContrast(const PixelPlanes& planes) {
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* plane = planes.data + c * planes.pixels();
    const auto [low, high] = std::minmax_element(plane, plane + planes.pixels());
    if (*low == *high) continue;
    const double scale = 255.0 / (*high - *low);
    const double offset = -*low * scale;
    Table table;
    for (size_t i = 0; i < table.size(); ++i) {
      const int value = static_cast<int>(static_cast<double>(i) * scale + offset);
      table[i] = static_cast<uint8_t>(std::clamp(value, 0, 255));
    }
    Apply(table, plane, planes.pixels());
  }
}

void Equalize(const PixelPlanes& planes) {
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* plane = planes.data + c * planes.pixels();
    const std::array<int64_t, 256> histogram = Histogram(plane, planes.pixels());
    const auto last = std::find_if(histogram.rbegin(), histogram.rend(),
                                   [](int64_t number) { return number > 0; });
    const int64_t step = (static_cast<int64_t>(planes.pixels()) - *last) / 255;
    if (step == 0) continue;
    Table table;
    int64_t sum = step / 2;
    for (size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<uint8_t>(std::min<int64_t>(255, sum / step));
      sum += histogram[i];
    }
    Apply(table, plane, planes.pixels());
  }
}

Affine Rotation(double degrees, int width, int height) {
  const double angle = degrees * std::numbers::pi / 180;
  const double a = std::cos(angle);
  const double b = std::sin(angle);
  const double x = width / 2.0;
  const double y = height / 2.0;
  return {a, b, (1 - a) * x - b * y, -b, a, b * x + (1 - a) * y};
}

void Warp(const Affine& affine, uint8_t outside, const PixelPlanes& planes,
          std::vector<uint8_t>* scratch) {
  const Affine back = Inverse(affine);
  const auto width = static_cast<size_t>(planes.width);
  const size_t count = planes.pixels();
  // A copy of the plane, then the columns' steps.
  const size_t steps_at = (count + sizeof(int) - 1) / sizeof(int) * sizeof(int);
  scratch->resize(std::max(scratch->size(), steps_at + 2 * width * sizeof(int)));
  int* dx = reinterpret_cast<int*>(scratch->data() + steps_at);
  int* dy = dx + width;
  for (size_t x = 0; x < width; ++x) {
    dx[x] = ToCoordinate(back[0] * static_cast<double>(x));
    dy[x] = ToCoordinate(back[3] * static_cast<double>(x));
  }
  constexpr int kRound = 1 << (kCoordinateBits - kWeighBits - 1);
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* plane = planes.data + c * count;
    std::copy_n(plane, count, scratch->data());
    for (int y = 0; y < planes.height; ++y) {
      const WarpRow row{ToCoordinate(back[1] * y + back[2]) + kRound,
                        ToCoordinate(back[4] * y + back[5]) + kRound, dx, dy};
      WarpOneRow(scratch->data(), planes.width, planes.height, outside, row,
                 plane + static_cast<size_t>(y) * width);
    }
  }
}

}  // namespace weft
