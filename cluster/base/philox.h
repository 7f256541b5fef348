// Keyed randomness (Philox4x32-10; Salmon et al., SC'11): a draw is a function of (seed, purpose, step) and of the
// element that asks, never of a rank, a thread or a call before it. There is no generator state to save.
//
// Thread rule: pure functions and values.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace weft {

using PhiloxBlock = std::array<uint32_t, 4>;

// One block of 128 random bits for a 128-bit counter (hi, lo) under a 64-bit key.
PhiloxBlock Philox4x32(uint64_t key, uint64_t counter_hi, uint64_t counter_lo);

// A stream of draws: key = hash(seed, purpose, step); counter = (row, element).
class KeyedRandom {
 public:
  // `purpose` names the draw's site: "init:visual.proj", "augment", "dropout:block3.mlp".
  KeyedRandom(uint64_t seed, std::string_view purpose, uint64_t step = 0);

  // Of Philox4x32, for kernels that draw many blocks at a time.
  uint64_t key() const { return key_; }

  // 64 random bits for (row, element).
  uint64_t Bits(uint64_t row, uint64_t element) const;
  // Uniform in [0, 1) with 53 bits, and in (0, 1), never 0 or 1, for inverse CDFs.
  double Uniform(uint64_t row, uint64_t element) const;
  double UniformOpen(uint64_t row, uint64_t element) const;
  // Standard normal by inverse CDF (Wichura, AS 241: relative error about 1e-16): one draw, no rejection.
  double Normal(uint64_t row, uint64_t element) const;
  // Uniform integer in [0, n); n > 0; bias below n / 2^64.
  uint64_t Below(uint64_t n, uint64_t row, uint64_t element) const;

 private:
  uint64_t key_;
};

// Inverse of the standard normal distribution function, p in (0, 1).
double InverseNormalCdf(double p);

}  // namespace weft
