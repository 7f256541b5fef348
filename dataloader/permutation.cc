#include "dataloader/permutation.h"

#include <algorithm>
#include <bit>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"

namespace weft {

Permutation::Permutation(uint64_t n, uint64_t key) : n_(n) {
  WEFT_CHECK_GT(n, 0u);
  const int bits = std::max(6, static_cast<int>(std::bit_width(n - 1)));
  low_bits_ = bits / 2;
  low_mask_ = (uint64_t{1} << low_bits_) - 1;
  high_mask_ = (uint64_t{1} << (bits - low_bits_)) - 1;
  for (size_t round = 0; round < kRounds; ++round) round_keys_[round] = HashCombine(key, round);
}

// Each round changes one half by a function of the other, so each is a bijection, whatever the function.
uint64_t Permutation::Encrypt(uint64_t value) const {
  uint64_t low = value & low_mask_;
  uint64_t high = value >> low_bits_;
  for (size_t round = 0; round < kRounds; round += 2) {
    high ^= Mix64(low + round_keys_[round]) & high_mask_;
    low ^= Mix64(high + round_keys_[round + 1]) & low_mask_;
  }
  return high << low_bits_ | low;
}

uint64_t Permutation::Decrypt(uint64_t value) const {
  uint64_t low = value & low_mask_;
  uint64_t high = value >> low_bits_;
  for (size_t round = kRounds; round > 0; round -= 2) {
    low ^= Mix64(high + round_keys_[round - 1]) & low_mask_;
    high ^= Mix64(low + round_keys_[round - 2]) & high_mask_;
  }
  return high << low_bits_ | low;
}

uint64_t Permutation::Inverse(uint64_t value) const {
  if (n_ == 1) return 0;
  do {
    value = Decrypt(value);
  } while (value >= n_);
  return value;
}

uint64_t Permutation::operator()(uint64_t i) const {
  if (n_ == 1) return 0;
  do {
    i = Encrypt(i);
  } while (i >= n_);
  return i;
}

void Permutation::FillTable(std::vector<uint64_t>* table) const {
  table->assign(n_, 0);
  if (n_ == 1) return;
  // One step of each walk, for the whole domain (less than 2 n, or 64).
  std::vector<uint64_t> next((high_mask_ + 1) << low_bits_);
  for (uint64_t i = 0; i < next.size(); ++i) next[i] = Encrypt(i);
  for (uint64_t i = 0; i < n_; ++i) {
    uint64_t value = next[i];
    while (value >= n_) value = next[value];
    (*table)[i] = value;
  }
}

}  // namespace weft
