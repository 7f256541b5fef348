// Any bytes as the geometry of a resize: a picture, a box of it, a size, a window of the result. What Weft computes, in tiles
// and with every instruction set that the machine has, at both precisions, equals the definition written down plainly.
#include <algorithm>
#include <cmath>

#include "cluster/base/logging.h"
#include "dataloader/resize.h"

namespace weft {
namespace {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  // In [low, high].
  int Draw(int low, int high) {
    int value = 0;
    for (int i = 0; i < 2; ++i) value = value << 8 | (at_ < size_ ? data_[at_++] : 7);
    return low + value % (high - low + 1);
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

double Filter(ResizeFilter filter, double x) {
  if (filter == ResizeFilter::kBox) return x > -0.5 && x <= 0.5 ? 1 : 0;
  x = std::fabs(x);
  if (filter == ResizeFilter::kBilinear) return x < 1 ? 1 - x : 0;
  constexpr double kA = -0.5;
  if (x < 1) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * kA : 0;
}

// One output of an axis: a sum over inputs get(j), in 22-bit fixed point, or rounded from there to `bits`.
template <typename Get>
uint8_t Resample(const ResizeAxis& axis, ResizeFilter filter, int bits, int i, const Get& get) {
  const double scale = (axis.end - axis.begin) / axis.full_size;
  const double stretch = std::max(scale, 1.0);
  const double reach = filter == ResizeFilter::kBicubic    ? 2.0
                       : filter == ResizeFilter::kBilinear ? 1.0
                                                           : 0.5;
  const double support = reach * stretch;
  const double center = axis.begin + (axis.out_begin + i + 0.5) * scale;
  const int first = std::max(axis.clip_begin, static_cast<int>(center - support + 0.5));
  const int last = std::min(axis.clip_end, static_cast<int>(center + support + 0.5));
  std::vector<double> weights;
  double sum = 0;
  for (int j = first; j < last; ++j) {
    weights.push_back(Filter(filter, (j - first + first - center + 0.5) * (1.0 / stretch)));
    sum += weights.back();
  }
  const int shift = kWeightBits - bits;
  int64_t total = int64_t{1} << (bits - 1);
  for (int j = first; j < last; ++j) {
    const double w = sum == 0 ? 0 : weights[static_cast<size_t>(j - first)] / sum * (1 << 22);
    const auto fixed = static_cast<int64_t>(w < 0 ? w - 0.5 : w + 0.5);
    total += ((fixed + (1 << shift) / 2) >> shift) * get(j);
  }
  return static_cast<uint8_t>(std::clamp<int64_t>(total >> bits, 0, 255));
}

ResizeAxis DrawAxis(Bytes* bytes, int extent) {
  ResizeAxis axis;
  axis.clip_begin = bytes->Draw(0, extent - 1);
  axis.clip_end = bytes->Draw(axis.clip_begin + 1, extent);
  // Fractions as a shrunken picture has them.
  axis.begin = axis.clip_begin + bytes->Draw(0, 7) / 8.0;
  axis.end = std::max(axis.begin + 0.125, axis.clip_end - bytes->Draw(0, 7) / 8.0);
  axis.full_size = bytes->Draw(1, 48);
  axis.out_begin = bytes->Draw(0, axis.full_size - 1);
  axis.out_size = bytes->Draw(1, axis.full_size - axis.out_begin);
  return axis;
}

std::vector<uint8_t> Expected(const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
                              int bits, bool flip, const std::vector<uint8_t>& plane, int width,
                              int height) {
  std::vector<uint8_t> out(static_cast<size_t>(x.out_size) * static_cast<size_t>(y.out_size));
  for (int column = 0; column < x.out_size; ++column) {
    std::vector<uint8_t> line(static_cast<size_t>(height));
    for (int j = y.clip_begin; j < y.clip_end; ++j) {
      const uint8_t* row = plane.data() + static_cast<size_t>(j) * static_cast<size_t>(width);
      line[static_cast<size_t>(j)] =
          Resample(x, filter, bits, column, [&](int k) { return row[k]; });
    }
    const int at = flip ? x.out_size - 1 - column : column;
    for (int row = 0; row < y.out_size; ++row)
      out[static_cast<size_t>(row * x.out_size + at)] =
          Resample(y, filter, bits, row, [&](int k) { return line[static_cast<size_t>(k)]; });
  }
  return out;
}

void Check(Bytes bytes) {
  const int width = bytes.Draw(1, 300);
  const int height = bytes.Draw(1, 80);
  const auto filter = static_cast<ResizeFilter>(bytes.Draw(0, 2));
  const bool flip = bytes.Draw(0, 1) == 1;
  const ResizeAxis x = DrawAxis(&bytes, width);
  const ResizeAxis y = DrawAxis(&bytes, height);
  const int step = bytes.Draw(1, 4000);
  const bool narrow = bytes.Draw(0, 1) == 0;
  std::vector<uint8_t> plane(static_cast<size_t>(width) * static_cast<size_t>(height));
  for (size_t i = 0; i < plane.size(); ++i)
    plane[i] = static_cast<uint8_t>(i * static_cast<size_t>(step) * 2654435761U >> 13);
  const std::vector<uint8_t> expected =
      Expected(x, y, filter, narrow ? kNarrowBits : kWeightBits, flip, plane, width, height);
  for (const ResizeKernels& kernels : AllResizeKernels()) {
    Resizer resizer(kernels);
    resizer.Plan(x, y, filter, narrow ? ResizePrecision::kNarrow : ResizePrecision::kExact);
    std::vector<uint8_t> out(expected.size());
    resizer.Resize({plane.data(), static_cast<size_t>(width), 0, 0}, flip, out.data());
    WEFT_CHECK(out == expected);
  }
}

}  // namespace
}  // namespace weft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weft::Check(weft::Bytes(data, size));
  return 0;
}
