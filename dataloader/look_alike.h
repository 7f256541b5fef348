// Pictures that look alike near each other: frames of one film, one product in many colours, in the order in which they were
// crawled. A chunk's samples stay together in time, so such neighbours are easy negatives of each other; a shuffle over the
// whole set (`weft data pack`) parts them.
//
// Thread rule: one thread.
// Source: difference hash of 8 x 8 brightness steps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataloader/image_decode.h"

namespace weft {

// 64 bits: whether the brightness rises from each cell of a 9 x 8 grid to its right neighbour.
uint64_t DifferenceHash(const Image& image);

class LookAlikes {
 public:
  // Samples of a chunk, as the order has them.
  explicit LookAlikes(int64_t chunk = 128) : chunk_(chunk) {}
  // The next sample with a picture, number `index` of its shard.
  void Add(int64_t index, const std::string& key, const Image& image);
  // Pictures that look like one before them in their chunk, and the first such pair.
  int64_t count() const { return count_; }
  const std::string& first() const { return first_; }
  const std::string& second() const { return second_; }

 private:
  struct Seen {
    std::string key;
    uint64_t hash;
  };

  const int64_t chunk_;
  int64_t current_ = -1;
  std::vector<Seen> seen_;
  int64_t count_ = 0;
  std::string first_;
  std::string second_;
};

}  // namespace weft
