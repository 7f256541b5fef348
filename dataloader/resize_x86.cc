#include "dataloader/resize_x86.h"

#include "dataloader/jpeg/clones.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

namespace weft {
namespace {

// Outputs of the columns x to x + 3; behind the last column the last one again, which the stride has room for.
WEFT_ALWAYS_INLINE void FourOutputs(size_t x, size_t size, bool flip, size_t outputs[4]) {
  for (size_t k = 0; k < 4; ++k) {
    const size_t column = x + k < size ? x + k : size - 1;
    outputs[k] = flip ? size - 1 - column : column;
  }
}

namespace avx2 {

#define TARGET __attribute__((target("avx2")))

// Weights of two bytes each, of the even and of the odd inputs of a quad; wide ones in two parts, the upper part first.
constexpr int kLowBits = 12;

size_t WordsPerQuad(int bits) { return bits == kWeightBits ? 4 : 2; }

uint32_t PairOf(int32_t low, int32_t high) {
  return (static_cast<uint32_t>(high) << 16) | (static_cast<uint32_t>(low) & 0xFFFF);
}

void Pack(const int32_t* w, size_t quads, int bits, uint32_t* words) {
  const bool wide = bits == kWeightBits;
  const int shift = wide ? kLowBits : 0;
  const int32_t mask = (1 << kLowBits) - 1;
  for (size_t q = 0; q < quads; ++q, w += 4) {
    *words++ = PairOf(w[0] >> shift, w[2] >> shift);
    *words++ = PairOf(w[1] >> shift, w[3] >> shift);
    if (!wide) continue;
    *words++ = PairOf(w[0] & mask, w[2] & mask);
    *words++ = PairOf(w[1] & mask, w[3] & mask);
  }
}

void Gather(const uint8_t* const rows[kTileRows], size_t count, uint32_t* tile) {
  for (size_t q = 0; q < count; ++q) {
    for (size_t r = 0; r < kTileRows; ++r) std::memcpy(tile++, rows[r] + 4 * q, 4);
  }
}

TARGET WEFT_ALWAYS_INLINE __m256i Both(const uint32_t* weights, __m256i even, __m256i odd) {
  return _mm256_add_epi32(_mm256_madd_epi16(even, _mm256_set1_epi32(static_cast<int>(weights[0]))),
                          _mm256_madd_epi16(odd, _mm256_set1_epi32(static_cast<int>(weights[1]))));
}

// Sums of 8 lanes over quads `step` apart, shifted down.
template <bool kWide>
TARGET WEFT_ALWAYS_INLINE __m256i Sum(const uint32_t* quads, size_t step, size_t count,
                                      const uint32_t* weights) {
  constexpr int kBits = kWide ? kWeightBits : kNarrowBits;
  const __m256i mask = _mm256_set1_epi32(0x00FF00FF);
  __m256i low = _mm256_set1_epi32(1 << (kBits - 1));
  __m256i high = _mm256_setzero_si256();
  for (size_t q = 0; q < count; ++q, quads += step) {
    const __m256i four = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(quads));
    const __m256i even = _mm256_and_si256(four, mask);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(four, 8), mask);
    if (kWide) {
      high = _mm256_add_epi32(high, Both(weights + 4 * q, even, odd));
      low = _mm256_add_epi32(low, Both(weights + 4 * q + 2, even, odd));
    } else {
      low = _mm256_add_epi32(low, Both(weights + 2 * q, even, odd));
    }
  }
  if (kWide) low = _mm256_add_epi32(low, _mm256_slli_epi32(high, kLowBits));
  return _mm256_srai_epi32(low, kBits);
}

// Four sums to bytes: in each 128-bit lane four of the first, of the second, ...
TARGET WEFT_ALWAYS_INLINE __m256i Bytes(const __m256i sums[4]) {
  return _mm256_packus_epi16(_mm256_packs_epi32(sums[0], sums[1]),
                             _mm256_packs_epi32(sums[2], sums[3]));
}

template <bool kWide>
TARGET WEFT_ALWAYS_INLINE void FourColumns(const uint32_t* tile, const QuadWeights& weights,
                                           const size_t outputs[4], uint32_t* out, size_t stride) {
  for (size_t half = 0; half < 2; ++half) {
    __m256i sums[4];
    for (size_t k = 0; k < 4; ++k) {
      const size_t i = outputs[k];
      sums[k] = Sum<kWide>(tile + weights.firsts[i] * kTileRows + 8 * half, kTileRows,
                           weights.quads, weights.words.data() + i * weights.stride);
    }
    const __m256i bytes = Bytes(sums);
    uint32_t* first = out + 2 * half * stride;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first), _mm256_castsi256_si128(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first + stride),
                     _mm256_extracti128_si256(bytes, 1));
  }
}

TARGET void Horizontal(const uint32_t* tile, const QuadWeights& weights, bool flip, RowQuads out) {
  for (size_t x = 0; x < weights.size; x += 4) {
    size_t outputs[4];
    FourOutputs(x, weights.size, flip, outputs);
    if (weights.bits == kWeightBits) {
      FourColumns<true>(tile, weights, outputs, out.words + x, out.stride);
    } else {
      FourColumns<false>(tile, weights, outputs, out.words + x, out.stride);
    }
  }
}

template <bool kWide>
TARGET WEFT_ALWAYS_INLINE void Row(RowQuads in, size_t width, const QuadWeights& weights, size_t i,
                                   uint8_t* out) {
  const uint32_t* quads = in.words + weights.firsts[i] * in.stride;
  const uint32_t* words = weights.words.data() + i * weights.stride;
  for (size_t x = 0; x < width; x += 32) {
    __m256i sums[4];
    for (size_t k = 0; k < 4; ++k)
      sums[k] = Sum<kWide>(quads + x + 8 * k, in.stride, weights.quads, words);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    uint8_t bytes[32];
    uint8_t* to = x + 32 <= width ? out + x : bytes;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_permutevar8x32_epi32(Bytes(sums), order));
    if (to == bytes) std::memcpy(out + x, bytes, width - x);
  }
}

TARGET void Vertical(RowQuads in, size_t width, const QuadWeights& weights, size_t i,
                     uint8_t* out) {
  if (weights.bits == kWeightBits) {
    Row<true>(in, width, weights, i, out);
  } else {
    Row<false>(in, width, weights, i, out);
  }
}

#undef TARGET

}  // namespace avx2

namespace vnni {

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// Weights in digits of one signed byte, the lowest first.
size_t WordsPerQuad(int bits) { return bits == kWeightBits ? 3 : 2; }

TARGET void Pack(const int32_t* weights, size_t quads, int bits, uint32_t* words) {
  const size_t digits = WordsPerQuad(bits);
  const __m128i low_bytes =
      _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  for (size_t q = 0; q < quads; ++q, weights += 4) {
    __m128i rest = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights));
    for (size_t d = 0; d < digits; ++d) {
      *words++ = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_shuffle_epi8(rest, low_bytes)));
      // Less the digit, which counts as negative from 128 on.
      rest = _mm_srai_epi32(_mm_add_epi32(rest, _mm_set1_epi32(128)), 8);
    }
  }
}

// 16 x 16 words: a[r] has 16 quads of row r, then of quad r all rows.
TARGET WEFT_ALWAYS_INLINE void Transpose(__m512i a[16]) {
  __m512i b[16];
  for (size_t i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  // Then 128-bit lane l of a[4 n + m] has the quads 4 l + m of the rows 4 n to 4 n + 3.
  for (size_t i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (size_t m = 0; m < 4; ++m) {
    const __m512i low0 = _mm512_shuffle_i32x4(a[m], a[4 + m], 0x44);
    const __m512i high0 = _mm512_shuffle_i32x4(a[m], a[4 + m], 0xEE);
    const __m512i low1 = _mm512_shuffle_i32x4(a[8 + m], a[12 + m], 0x44);
    const __m512i high1 = _mm512_shuffle_i32x4(a[8 + m], a[12 + m], 0xEE);
    b[m] = _mm512_shuffle_i32x4(low0, low1, 0x88);
    b[4 + m] = _mm512_shuffle_i32x4(low0, low1, 0xDD);
    b[8 + m] = _mm512_shuffle_i32x4(high0, high1, 0x88);
    b[12 + m] = _mm512_shuffle_i32x4(high0, high1, 0xDD);
  }
  std::memcpy(a, b, sizeof(b));
}

TARGET void Gather(const uint8_t* const rows[kTileRows], size_t count, uint32_t* tile) {
  for (size_t q = 0; q < count; q += 16) {
    const size_t quads = count - q < 16 ? count - q : 16;
    const auto mask = static_cast<__mmask16>((1u << quads) - 1);
    __m512i block[16];
    for (size_t r = 0; r < 16; ++r) block[r] = _mm512_maskz_loadu_epi32(mask, rows[r] + 4 * q);
    Transpose(block);
    for (size_t k = 0; k < quads; ++k) _mm512_storeu_si512(tile + (q + k) * 16, block[k]);
  }
}

TARGET WEFT_ALWAYS_INLINE __m512i Add(__m512i sum, __m512i quads, uint32_t weights) {
  return _mm512_dpbusd_epi32(sum, quads, _mm512_set1_epi32(static_cast<int>(weights)));
}

// Four sums of 16 lanes over quads `step` apart, shifted down.
template <int kDigits>
TARGET WEFT_ALWAYS_INLINE void Sums(const uint32_t* const quads[4], const uint32_t* const words[4],
                                    size_t step, size_t count, __m512i sums[4]) {
  constexpr int kBits = kDigits == 3 ? kWeightBits : kNarrowBits;
  __m512i digits[4][3];
  for (auto& digit : digits) {
    digit[0] = _mm512_set1_epi32(1 << (kBits - 1));
    digit[1] = digit[2] = _mm512_setzero_si512();
  }
  for (size_t q = 0; q < count; ++q) {
#pragma GCC unroll 4
    for (size_t k = 0; k < 4; ++k) {
      const __m512i four = _mm512_loadu_si512(quads[k] + q * step);
#pragma GCC unroll 3
      for (size_t d = 0; d < kDigits; ++d)
        digits[k][d] = Add(digits[k][d], four, words[k][q * kDigits + d]);
    }
  }
  for (size_t k = 0; k < 4; ++k) {
    __m512i high = digits[k][1];
    if (kDigits == 3) high = _mm512_add_epi32(high, _mm512_slli_epi32(digits[k][2], 8));
    sums[k] = _mm512_srai_epi32(_mm512_add_epi32(digits[k][0], _mm512_slli_epi32(high, 8)), kBits);
  }
}

// Four sums to bytes: in each 128-bit lane four of the first, of the second, ...
TARGET WEFT_ALWAYS_INLINE __m512i Bytes(const __m512i sums[4]) {
  return _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]),
                             _mm512_packs_epi32(sums[2], sums[3]));
}

template <int kDigits>
TARGET WEFT_ALWAYS_INLINE void FourColumns(const uint32_t* tile, const QuadWeights& weights,
                                           const size_t outputs[4], uint32_t* out, size_t stride) {
  const uint32_t* quads[4];
  const uint32_t* words[4];
  for (size_t k = 0; k < 4; ++k) {
    quads[k] = tile + weights.firsts[outputs[k]] * kTileRows;
    words[k] = weights.words.data() + outputs[k] * weights.stride;
  }
  __m512i sums[4];
  Sums<kDigits>(quads, words, kTileRows, weights.quads, sums);
  const __m512i bytes = Bytes(sums);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + stride), _mm512_extracti32x4_epi32(bytes, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * stride),
                   _mm512_extracti32x4_epi32(bytes, 2));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * stride),
                   _mm512_extracti32x4_epi32(bytes, 3));
}

TARGET void Horizontal(const uint32_t* tile, const QuadWeights& weights, bool flip, RowQuads out) {
  for (size_t x = 0; x < weights.size; x += 4) {
    size_t outputs[4];
    FourOutputs(x, weights.size, flip, outputs);
    if (weights.bits == kWeightBits) {
      FourColumns<3>(tile, weights, outputs, out.words + x, out.stride);
    } else {
      FourColumns<2>(tile, weights, outputs, out.words + x, out.stride);
    }
  }
}

template <int kDigits>
TARGET WEFT_ALWAYS_INLINE void Row(RowQuads in, size_t width, const QuadWeights& weights, size_t i,
                                   uint8_t* out) {
  const uint32_t* first = in.words + weights.firsts[i] * in.stride;
  const uint32_t* weight = weights.words.data() + i * weights.stride;
  const uint32_t* const words[4] = {weight, weight, weight, weight};
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (size_t x = 0; x < width; x += 64) {
    const uint32_t* const quads[4] = {first + x, first + x + 16, first + x + 32, first + x + 48};
    __m512i sums[4];
    Sums<kDigits>(quads, words, in.stride, weights.quads, sums);
    const size_t left = width - x;
    const __mmask64 mask = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    _mm512_mask_storeu_epi8(out + x, mask, _mm512_permutexvar_epi32(order, Bytes(sums)));
  }
}

TARGET void Vertical(RowQuads in, size_t width, const QuadWeights& weights, size_t i,
                     uint8_t* out) {
  if (weights.bits == kWeightBits) {
    Row<3>(in, width, weights, i, out);
  } else {
    Row<2>(in, width, weights, i, out);
  }
}

#undef TARGET

}  // namespace vnni

}  // namespace

std::vector<ResizeKernels> X86ResizeKernels() {
  std::vector<ResizeKernels> all;
  if (__builtin_cpu_supports("avx2")) {
    all.push_back(
        {&avx2::WordsPerQuad, &avx2::Pack, &avx2::Gather, &avx2::Horizontal, &avx2::Vertical});
  }
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    all.push_back(
        {&vnni::WordsPerQuad, &vnni::Pack, &vnni::Gather, &vnni::Horizontal, &vnni::Vertical});
  }
  return all;
}

}  // namespace weft

#else

namespace weft {

std::vector<ResizeKernels> X86ResizeKernels() { return {}; }

}  // namespace weft

#endif
