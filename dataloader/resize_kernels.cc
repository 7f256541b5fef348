#include "dataloader/resize_kernels.h"

#include <algorithm>
#include <cstring>

#include "dataloader/jpeg/clones.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);
// Bytes of a row that the vertical pass sums at a time.
constexpr size_t kColumns = 64;

WEFT_ALWAYS_INLINE uint8_t ToByte(int32_t sum) {
  const int32_t value = sum >> kWeightBits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

constexpr int16_t NarrowHalf(int count) {
  return static_cast<int16_t>((1 << (kNarrowSumBits - 1)) + count / 2);
}

WEFT_ALWAYS_INLINE uint8_t NarrowToByte(int16_t sum) {
  const auto value = static_cast<int16_t>(sum >> kNarrowSumBits);
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// `kCount` neighbouring outputs, each from inputs `step` apart. The upper half of a product of 16 bits is one instruction.
template <size_t kCount>
WEFT_ALWAYS_INLINE void NarrowSums(const int16_t* __restrict in, size_t step,
                                   const int16_t* __restrict weights, int count,
                                   uint8_t* __restrict out) {
  int16_t sums[kCount];
  for (size_t k = 0; k < kCount; ++k) sums[k] = NarrowHalf(count);
  for (int j = 0; j < count; ++j, in += step) {
    const int16_t weight = weights[j];
    for (size_t k = 0; k < kCount; ++k)
      sums[k] = static_cast<int16_t>(sums[k] + static_cast<int16_t>((in[k] * weight) >> 16));
  }
  for (size_t k = 0; k < kCount; ++k) out[k] = NarrowToByte(sums[k]);
}

#if defined(__SSE2__)
// Left to itself, GCC vectorises short runs over the wrong index.
template <>
WEFT_ALWAYS_INLINE void NarrowSums<16>(const int16_t* __restrict in, size_t step,
                                       const int16_t* __restrict weights, int count,
                                       uint8_t* __restrict out) {
  __m128i low = _mm_set1_epi16(NarrowHalf(count));
  __m128i high = low;
  for (int j = 0; j < count; ++j, in += step) {
    const __m128i weight = _mm_set1_epi16(weights[j]);
    const auto* at = reinterpret_cast<const __m128i*>(in);
    low = _mm_add_epi16(low, _mm_mulhi_epi16(_mm_loadu_si128(at), weight));
    high = _mm_add_epi16(high, _mm_mulhi_epi16(_mm_loadu_si128(at + 1), weight));
  }
  low = _mm_srai_epi16(low, kNarrowSumBits);
  high = _mm_srai_epi16(high, kNarrowSumBits);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(low, high));
}
#endif

// 16 x 16 bytes from rows `in` to columns `out`.
WEFT_ALWAYS_INLINE void TransposeBlock(const uint8_t* const in[16], uint8_t* out) {
#if defined(__SSE2__)
  __m128i a[16];
  __m128i b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[i]));
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
      b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
    }
    std::copy_n(b, 16, a);
  }
  for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out) + i, a[i]);
#else
  for (size_t x = 0; x < 16; ++x)
    for (size_t y = 0; y < 16; ++y) out[16 * x + y] = in[y][x];
#endif
}

WEFT_ALWAYS_INLINE void SumColumns(const uint8_t* in, size_t width, const int32_t* weights,
                                   int count, uint8_t* out) {
  int32_t sums[kColumns];
  for (size_t k = 0; k < kColumns; ++k) sums[k] = kHalf;
  for (int j = 0; j < count; ++j, in += width) {
    const int32_t weight = weights[j];
    for (size_t k = 0; k < kColumns; ++k) sums[k] += weight * in[k];
  }
  for (size_t k = 0; k < kColumns; ++k) out[k] = ToByte(sums[k]);
}

}  // namespace

WEFT_PIXEL_CLONES void TransposeIn(const uint8_t* rows, size_t stride, size_t num_rows,
                                   size_t count, uint8_t* tile) {
  const uint8_t* in[16];
  for (size_t x = 0; x < count; x += 16) {
    const size_t columns = std::min<size_t>(16, count - x);
    uint8_t edge[16][16] = {};
    for (size_t y = 0; y < 16; ++y) {
      in[y] = rows + std::min(y, num_rows - 1) * stride + x;
      if (columns == 16) continue;
      std::memcpy(edge[y], in[y], columns);
      in[y] = edge[y];
    }
    TransposeBlock(in, tile + 16 * x);
  }
}

WEFT_PIXEL_CLONES void TransposeOut(const uint8_t* tile, size_t count, size_t num_rows,
                                    uint8_t* rows, size_t stride) {
  const uint8_t* in[16];
  for (size_t x = 0; x < count; x += 16) {
    const size_t columns = std::min<size_t>(16, count - x);
    for (size_t i = 0; i < 16; ++i) in[i] = tile + 16 * std::min(x + i, count - 1);
    uint8_t block[16 * 16];
    TransposeBlock(in, block);
    for (size_t y = 0; y < num_rows; ++y)
      std::memcpy(rows + y * stride + x, block + 16 * y, columns);
  }
}

WEFT_PIXEL_CLONES void ResizeTile(const uint8_t* tile, int origin, const AxisWeights& weights,
                                  bool flip, uint8_t* out) {
  for (size_t i = 0; i < weights.size; ++i) {
    uint8_t* run = out + (flip ? weights.size - 1 - i : i) * kTileRows;
    const uint8_t* in = tile + static_cast<size_t>(weights.firsts[i] - origin) * kTileRows;
    const int count = weights.counts[i];
    const int32_t* w = weights.values + i * weights.stride;
    int32_t sums[kTileRows];
    for (size_t k = 0; k < kTileRows; ++k) sums[k] = kHalf;
    for (int j = 0; j < count; ++j, in += kTileRows) {
      const int32_t weight = w[j];
      for (size_t k = 0; k < kTileRows; ++k) sums[k] += weight * in[k];
    }
    for (size_t k = 0; k < kTileRows; ++k) run[k] = ToByte(sums[k]);
  }
}

WEFT_PIXEL_CLONES void ResizeColumns(const uint8_t* rows, size_t width, int origin,
                                     const AxisWeights& weights, size_t i, uint8_t* out) {
  const uint8_t* in = rows + static_cast<size_t>(weights.firsts[i] - origin) * width;
  const int count = weights.counts[i];
  size_t x = 0;
  const int32_t* w = weights.values + i * weights.stride;
  for (; x + kColumns <= width; x += kColumns) SumColumns(in + x, width, w, count, out + x);
  for (; x < width; ++x) {
    int32_t sum = kHalf;
    for (int j = 0; j < count; ++j) sum += w[j] * in[static_cast<size_t>(j) * width + x];
    out[x] = ToByte(sum);
  }
}

// 15 bits of data and 14 of weight: the sums' 5 fraction bits are left in the upper half.
WEFT_PIXEL_CLONES void Widen(const uint8_t* __restrict bytes, size_t count,
                             int16_t* __restrict wide) {
  constexpr int kShift = 16 + kNarrowSumBits - kNarrowBits;
  for (size_t i = 0; i < count; ++i) wide[i] = static_cast<int16_t>(bytes[i] << kShift);
}

WEFT_PIXEL_CLONES void ResizeTileNarrow(const int16_t* tile, int origin, const AxisWeights& weights,
                                        bool flip, uint8_t* out) {
  for (size_t i = 0; i < weights.size; ++i) {
    uint8_t* run = out + (flip ? weights.size - 1 - i : i) * kTileRows;
    const int16_t* in = tile + static_cast<size_t>(weights.firsts[i] - origin) * kTileRows;
    NarrowSums<kTileRows>(in, kTileRows, weights.narrow + i * weights.stride, weights.counts[i],
                          run);
  }
}

WEFT_PIXEL_CLONES void ResizeColumnsNarrow(const int16_t* rows, size_t width, int origin,
                                           const AxisWeights& weights, size_t i, uint8_t* out) {
  const int16_t* in = rows + static_cast<size_t>(weights.firsts[i] - origin) * width;
  const int16_t* w = weights.narrow + i * weights.stride;
  const int count = weights.counts[i];
  size_t x = 0;
  for (; x + 64 <= width; x += 64) NarrowSums<64>(in + x, width, w, count, out + x);
  for (; x + 16 <= width; x += 16) NarrowSums<16>(in + x, width, w, count, out + x);
  for (; x < width; ++x) NarrowSums<1>(in + x, width, w, count, out + x);
}

}  // namespace weft
