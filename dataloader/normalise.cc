#include "dataloader/normalise.h"

#include <bit>
#include <cstring>

#include "dataloader/jpeg/clones.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft {
namespace {

// CLIP's, for recipes that have none.
constexpr double kMean[] = {0.48145466, 0.4578275, 0.40821073};
constexpr double kStd[] = {0.26862954, 0.26130258, 0.27577711};

// This file is compiled without contraction to fused operations: all clones round alike.
WEFT_PIXEL_CLONES void ToFloat(const uint8_t* in, size_t count, float scale, float shift,
                               float* out) {
  size_t i = 0;
#if defined(__SSE2__)
  // Past the caches: the batch is larger than they are, and nobody reads it soon.
  const __m128i zero = _mm_setzero_si128();
  const bool aligned = reinterpret_cast<uintptr_t>(out) % 16 == 0;
  for (; aligned && i + 16 <= count; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    const __m128i words[2] = {_mm_unpacklo_epi8(bytes, zero), _mm_unpackhi_epi8(bytes, zero)};
    for (size_t k = 0; k < 4; ++k) {
      const __m128i word = words[k / 2];
      const __m128i four =
          k % 2 == 0 ? _mm_unpacklo_epi16(word, zero) : _mm_unpackhi_epi16(word, zero);
      const __m128 product = _mm_mul_ps(_mm_cvtepi32_ps(four), _mm_set1_ps(scale));
      _mm_stream_ps(out + i + 4 * k, _mm_add_ps(product, _mm_set1_ps(shift)));
    }
  }
  _mm_sfence();
#endif
  for (; i < count; ++i) out[i] = static_cast<float>(in[i]) * scale + shift;
}

WEFT_PIXEL_CLONES void ToBfloat16(const uint8_t* in, size_t count, float scale, float shift,
                                  uint16_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(static_cast<float>(in[i]) * scale + shift);
    out[i] = static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
}

FieldType TypeOf(AugmentRecipe::PixelType type) {
  switch (type) {
    case AugmentRecipe::FP32_NORMALISED:
      return FieldType::kF32;
    case AugmentRecipe::BF16_NORMALISED:
      return FieldType::kBf16;
    case AugmentRecipe::U8:
      break;
  }
  return FieldType::kU8;
}

}  // namespace

PixelWriter::PixelWriter(const AugmentRecipe& recipe) : type_(TypeOf(recipe.pixel_type())) {
  for (int c = 0; c < 3; ++c) {
    const double mean = recipe.mean_size() == 3 ? recipe.mean(c) : kMean[c];
    const double std = recipe.std_size() == 3 ? recipe.std(c) : kStd[c];
    scale_[static_cast<size_t>(c)] = static_cast<float>(1 / (255 * std));
    shift_[static_cast<size_t>(c)] = static_cast<float>(-mean / std);
  }
}

void PixelWriter::Write(const uint8_t* planes, size_t pixels, uint8_t* out) const {
  if (type_ == FieldType::kU8) {
    std::memcpy(out, planes, 3 * pixels);
    return;
  }
  for (size_t c = 0; c < 3; ++c, planes += pixels, out += pixels * FieldTypeBytes(type_)) {
    if (type_ == FieldType::kF32) {
      ToFloat(planes, pixels, scale_[c], shift_[c], reinterpret_cast<float*>(out));
    } else {
      ToBfloat16(planes, pixels, scale_[c], shift_[c], reinterpret_cast<uint16_t*>(out));
    }
  }
}

}  // namespace weft
