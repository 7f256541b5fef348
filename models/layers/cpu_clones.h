// What the CPU kernels share: one function compiled for several CPU generations, and elements read and written in
// fp32 (fp64). For .cc files of kernels only.
//
// Thread rule: pure functions.
#pragma once

#include <bit>
#include <cstdint>

#include "models/layers/cpu_kernels.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define WEFT_CPU_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define WEFT_CPU_CLONES
#endif

#define WEFT_INLINE inline __attribute__((always_inline))

namespace weft::cpu {

WEFT_INLINE float Load(const float* p) { return *p; }
WEFT_INLINE float Load(const BFloat16Bits* p) {
  return std::bit_cast<float>(static_cast<uint32_t>(*p) << 16);
}
WEFT_INLINE double Load(const double* p) { return *p; }
WEFT_INLINE void Store(float value, float* p) { *p = value; }
WEFT_INLINE void Store(double value, double* p) { *p = value; }
// Rounds to nearest even; NaN stays NaN.
WEFT_INLINE void Store(float value, BFloat16Bits* p) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  *p = static_cast<BFloat16Bits>(value != value ? 0x7fc0 : rounded);
}

}  // namespace weft::cpu
