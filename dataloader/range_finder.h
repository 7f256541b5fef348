// Which of many ranges, one after the other, holds a position: a table of as many equal steps as there are ranges says where
// to look, so that ranges of similar size (shards of a data set) cost one step and not a binary search; any sizes work.
//
// Thread rule: immutable once made.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace weft {

class RangeFinder {
 public:
  RangeFinder() = default;
  // `starts` never falls, begins with 0 and ends with the total; range r is [starts[r], starts[r + 1]).
  explicit RangeFinder(std::vector<uint64_t> starts) : starts_(std::move(starts)) {
    const uint64_t ranges = std::max<uint64_t>(1, starts_.size() - 1);
    // 2^shift positions a step: between one and two steps a range.
    while (total() >> shift_ >= 2 * ranges) ++shift_;
    uint32_t range = 0;
    for (uint64_t step = 0; step <= total() >> shift_; ++step) {
      while (range + 2 < starts_.size() && starts_[range + 1] <= step << shift_) ++range;
      first_.push_back(range);
    }
    first_.push_back(static_cast<uint32_t>(ranges - 1));
  }

  uint64_t total() const { return starts_.back(); }
  uint64_t start(size_t range) const { return starts_[range]; }
  // REQUIRES: position < total().
  size_t Find(uint64_t position) const {
    const uint64_t step = position >> shift_;
    const auto begin = starts_.begin();
    const auto after =
        std::upper_bound(begin + first_[step] + 1, begin + first_[step + 1] + 1, position);
    return static_cast<size_t>(after - begin) - 1;
  }

 private:
  std::vector<uint64_t> starts_{0};
  // The range that holds the first position of each step, and the last range.
  std::vector<uint32_t> first_;
  int shift_ = 0;
};

}  // namespace weft
