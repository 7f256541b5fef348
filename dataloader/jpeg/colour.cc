#include "dataloader/jpeg/colour.h"

#include <algorithm>
#include <cstring>

#include "dataloader/jpeg/clones.h"

namespace weft::jpeg {
namespace {

// 1.402, 1.772, 0.344136 and 0.714136 with 16 fraction bits, less the whole parts that are added apart.
constexpr int kRedCr = 91881 - 65536;
constexpr int kBlueCb = 116130 - 131072;
constexpr int kGreenCb = -22554;
constexpr int kGreenCr = -46802 + 65536;

WEFT_ALWAYS_INLINE uint8_t ToByte(int x) {
  return static_cast<uint8_t>(x < 0 ? 0 : x > 255 ? 255 : x);
}

// (factor * x + 1/2) >> 16 in 16 bits: twice as large, cut, then halved upwards.
WEFT_ALWAYS_INLINE int16_t Scale(int16_t x, int factor) {
  const auto twice = static_cast<int16_t>((2 * x * factor) >> 16);
  return static_cast<int16_t>((twice + 1) >> 1);
}

// 3 * near + far.
WEFT_PIXEL_CLONES void SumRows(const uint8_t* __restrict near, const uint8_t* __restrict far,
                               int count, int16_t* __restrict sums) {
  for (int i = 0; i < count; ++i) sums[i] = static_cast<int16_t>(3 * near[i] + far[i]);
}

// Two pixels a column; sums[-1] and sums[count] are neighbours or copies of the edge.
template <int kShift, int kRoundLeft, int kRoundRight>
WEFT_ALWAYS_INLINE void Widen(const int16_t* __restrict sums, int count, uint8_t* __restrict out) {
  for (int i = 0; i < count; ++i) {
    const int centre = 3 * sums[i];
    out[2 * i] = static_cast<uint8_t>((centre + sums[i - 1] + kRoundLeft) >> kShift);
    out[2 * i + 1] = static_cast<uint8_t>((centre + sums[i + 1] + kRoundRight) >> kShift);
  }
}

WEFT_PIXEL_CLONES void WidenBoth(const int16_t* sums, int count, uint8_t* out) {
  Widen<4, 8, 7>(sums, count, out);
}

WEFT_PIXEL_CLONES void WidenOne(const int16_t* sums, int count, uint8_t* out) {
  Widen<2, 1, 2>(sums, count, out);
}

}  // namespace

WEFT_PIXEL_CLONES void YccToRgb(const uint8_t* __restrict y, const uint8_t* __restrict cb,
                                const uint8_t* __restrict cr, int count, uint8_t* __restrict red,
                                uint8_t* __restrict green, uint8_t* __restrict blue) {
  for (int i = 0; i < count; ++i) {
    const auto b = static_cast<int16_t>(cb[i] - 128);
    const auto r = static_cast<int16_t>(cr[i] - 128);
    red[i] = ToByte(y[i] + r + Scale(r, kRedCr));
    blue[i] = ToByte(y[i] + 2 * b + Scale(b, kBlueCb));
    green[i] = ToByte(y[i] - r + ((kGreenCb * b + kGreenCr * r + 32768) >> 16));
  }
}

const uint8_t* ColourConverter::ChromaRow(const BaselineDecoder& decoder, int component,
                                          const Box& box, int y) {
  const Plane& plane = decoder.plane(component);
  const int step_x = decoder.chroma_step_x();
  const int step_y = decoder.chroma_step_y();
  if (step_x == 1) return plane.row(y) + box.left;
  const int begin = std::max(0, box.left / 2 - 1);
  const int end = std::min(plane.width, (box.right - 1) / 2 + 2);
  const int count = end - begin;
  std::vector<uint8_t>& out = rows_[static_cast<size_t>(component)];
  if (out.size() < 2 * static_cast<size_t>(count)) out.resize(2 * static_cast<size_t>(count));
  if (sums_.size() < static_cast<size_t>(count) + 2) sums_.resize(static_cast<size_t>(count) + 2);
  const uint8_t* near = plane.row(y / step_y) + begin;
  // libjpeg-turbo copies samples where the plane is narrow, or the blocks are single samples.
  if (plane.width <= 2 || decoder.shrink() == 8) {
    for (size_t i = 0; i < 2 * static_cast<size_t>(count); ++i) out[i] = near[i / 2];
    return out.data() + (box.left - 2 * begin);
  }
  int16_t* sums = sums_.data() + 1;
  if (step_y == 1) {
    for (int i = 0; i < count; ++i) sums[i] = near[i];
  } else {
    const int other = y % 2 == 0 ? std::max(0, y / 2 - 1) : std::min(plane.height - 1, y / 2 + 1);
    SumRows(near, plane.row(other) + begin, count, sums);
  }
  sums[-1] = sums[0];
  sums[count] = sums[count - 1];
  (step_y == 1 ? WidenOne : WidenBoth)(sums, count, out.data());
  return out.data() + (box.left - 2 * begin);
}

void ColourConverter::ToRgb(const BaselineDecoder& decoder, const Box& box,
                            const std::array<uint8_t*, 3>& planes) {
  const auto width = static_cast<size_t>(box.width());
  for (int y = box.top; y < box.bottom; ++y) {
    const size_t at = static_cast<size_t>(y - box.top) * width;
    const uint8_t* luma = decoder.plane(0).row(y) + box.left;
    if (decoder.num_planes() == 1) {
      for (uint8_t* plane : planes) std::memcpy(plane + at, luma, width);
      continue;
    }
    const uint8_t* cb = ChromaRow(decoder, 1, box, y);
    const uint8_t* cr = ChromaRow(decoder, 2, box, y);
    YccToRgb(luma, cb, cr, box.width(), planes[0] + at, planes[1] + at, planes[2] + at);
  }
}

}  // namespace weft::jpeg
