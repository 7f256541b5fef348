// A pseudo-random bijection on [0, n) that needs no table: a Feistel network of 8 rounds on b = max(6, ceil(log2 n)) bits,
// walked along its cycles until the value is below n. (4 rounds are visibly biased for n = 64; fewer than 6 bits for n = 5.)
//
// Thread rule: a value.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace weft {

class Permutation {
 public:
  // REQUIRES: n > 0.
  Permutation(uint64_t n, uint64_t key);
  // REQUIRES: i < n.
  uint64_t operator()(uint64_t i) const;
  // The i whose image is `value`. REQUIRES: value < n.
  uint64_t Inverse(uint64_t value) const;
  // table[i] = (*this)(i) for all i < n. Faster than one by one, as no value waits for another.
  void FillTable(std::vector<uint64_t>* table) const;

 private:
  static constexpr int kRounds = 8;

  uint64_t Encrypt(uint64_t value) const;
  uint64_t Decrypt(uint64_t value) const;

  uint64_t n_;
  int low_bits_;
  uint64_t low_mask_;
  uint64_t high_mask_;
  std::array<uint64_t, kRounds> round_keys_;
};

}  // namespace weft
