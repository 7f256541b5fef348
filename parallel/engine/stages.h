// How a model's blocks are cut into pipeline stages, and which of them are this rank's. Stage s runs on pipeline rank
// s % ranks.
//
// Thread rule: a value.
#pragma once

#include <algorithm>
#include <vector>

namespace weft {

struct Stages {
  // First block of each stage, ascending from 0.
  std::vector<int> first_block = {0};
  int num_blocks = 0;
  int ranks = 1;
  int rank = 0;

  int count() const { return static_cast<int>(first_block.size()); }
  int end_block(int stage) const {
    return stage + 1 < count() ? first_block[static_cast<size_t>(stage) + 1] : num_blocks;
  }
  int StageOf(int block) const {
    return static_cast<int>(std::upper_bound(first_block.begin(), first_block.end(), block) -
                            first_block.begin()) -
           1;
  }
  int RankOf(int stage) const { return stage % ranks; }
  bool IsOwn(int stage) const { return RankOf(stage) == rank; }
  int last() const { return count() - 1; }
};

}  // namespace weft
