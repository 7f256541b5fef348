#include "dataloader/jpeg/idct_x86.h"

#include "dataloader/jpeg/clones.h"
#include "dataloader/jpeg/idct_constants.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

namespace weft::jpeg {
namespace {

constexpr int PairOf(int low, int high) {
  return static_cast<int>((static_cast<unsigned>(high) << 16) |
                          (static_cast<unsigned>(low) & 0xFFFF));
}

namespace sse2 {
#define TARGET
#define VEC __m128i
#define WIDE(name) _mm_##name
#define LOAD(p) _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))
#define PAIR(a, b) _mm_set1_epi32(PairOf(a, b))
#define BLOCKS 1
WEFT_ALWAYS_INLINE __m128i Samples(__m128i v) {
  return _mm_xor_si128(_mm_packs_epi16(v, v), _mm_set1_epi8(-128));
}
#define STORE_SAMPLES(v, p) _mm_storel_epi64(reinterpret_cast<__m128i*>(p), Samples(v))
WEFT_ALWAYS_INLINE void StoreHalf(__m128i v, uint8_t* p) {
  const int samples = _mm_cvtsi128_si32(Samples(v));
  std::memcpy(p, &samples, 4);
}
#define STORE_HALF(v, p) StoreHalf(v, p)
#include "dataloader/jpeg/idct_kernel.inc"
#undef TARGET
#undef VEC
#undef WIDE
#undef LOAD
#undef PAIR
#undef BLOCKS
#undef STORE_SAMPLES
#undef STORE_HALF
}  // namespace sse2

namespace avx2 {
#define TARGET __attribute__((target("avx2")))
#define VEC __m256i
#define WIDE(name) _mm256_##name
#define LOAD(p) _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))
#define PAIR(a, b) _mm256_set1_epi32(PairOf(a, b))
#define BLOCKS 2
TARGET WEFT_ALWAYS_INLINE __m128i Samples(__m256i v) {
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi16(v, v), 0x08);
  return _mm_xor_si128(_mm256_castsi256_si128(packed), _mm_set1_epi8(-128));
}
#define STORE_SAMPLES(v, p) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), Samples(v))
TARGET WEFT_ALWAYS_INLINE void StoreHalf(__m256i v, uint8_t* p) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_shuffle_epi32(Samples(v), 0x08));
}
#define STORE_HALF(v, p) StoreHalf(v, p)
#include "dataloader/jpeg/idct_kernel.inc"
#undef TARGET
#undef VEC
#undef WIDE
#undef LOAD
#undef PAIR
#undef BLOCKS
#undef STORE_SAMPLES
#undef STORE_HALF
}  // namespace avx2

namespace avx512 {
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define VEC __m512i
#define WIDE(name) _mm512_##name
#define LOAD(p) _mm512_loadu_si512(p)
#define PAIR(a, b) _mm512_set1_epi32(PairOf(a, b))
#define BLOCKS 4
TARGET WEFT_ALWAYS_INLINE __m256i Samples(__m512i v) {
  return _mm256_xor_si256(_mm512_cvtsepi16_epi8(v), _mm256_set1_epi8(-128));
}
#define STORE_SAMPLES(v, p) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), Samples(v))
TARGET WEFT_ALWAYS_INLINE void StoreHalf(__m512i v, uint8_t* p) {
  const __m256i even = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(Samples(v), even)));
}
#define STORE_HALF(v, p) StoreHalf(v, p)
#include "dataloader/jpeg/idct_kernel.inc"
}  // namespace avx512

}  // namespace

std::vector<GroupIdct> X86Idcts(int shrink) {
  std::vector<GroupIdct> all;
  const bool full = shrink == 1;
  if (!full && shrink != 2) return all;
  all.push_back(full ? &sse2::Idct : &sse2::HalfIdct);
  if (__builtin_cpu_supports("avx2")) all.push_back(full ? &avx2::Idct : &avx2::HalfIdct);
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    all.push_back(full ? &avx512::Idct : &avx512::HalfIdct);
  return all;
}

}  // namespace weft::jpeg

#else

namespace weft::jpeg {

std::vector<GroupIdct> X86Idcts(int) { return {}; }

}  // namespace weft::jpeg

#endif
