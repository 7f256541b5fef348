// How the rows of the batches are shared by several data sets, in closed form: which set a row belongs to, and how many rows
// of its lane that set had before. No state, so any step is found at once (dataloader/README.md has the formula).
//
// Thread rule: immutable once made.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

// Deals an endless sequence of places to sets in integer proportions: after x places set d has had its share of x to within
// less than one place for each set before it.
class Interleave {
 public:
  // REQUIRES: at least one weight is above 0; their sum is below 2^63.
  explicit Interleave(std::vector<uint64_t> weights);
  // The set of place x.
  int Which(uint64_t x) const;
  // Places below x that belong to set d.
  uint64_t CountBefore(int d, uint64_t x) const;

 private:
  std::vector<uint64_t> weights_;
  // Per set: the weights from it on.
  std::vector<uint64_t> rest_;
};

enum class MixUnit { kSample, kBatch, kCounts };

// Weights that hold from a step on, one for each set.
struct MixWeights {
  int64_t from_step = 0;
  std::vector<uint64_t> weights;
};

struct MixOptions {
  MixUnit unit = MixUnit::kSample;
  // In the order of their steps, the first from step 0. Empty: there is one set only.
  std::vector<MixWeights> segments;
};

class Mix {
 public:
  struct Place {
    int set = 0;
    // Rows of this set in this lane before.
    uint64_t count = 0;
  };

  // V slots | L lanes, each with `rows` rows a step. Errors: InvalidArgument, naming the recipe's field.
  static StatusOr<Mix> Create(const MixOptions& options, int sets, int64_t slots, int64_t lanes,
                              int64_t rows);
  Place At(int64_t step, int64_t lane, int64_t row) const;
  // Rows of set d in the lane before `step`.
  uint64_t CountBefore(int d, int64_t step, int64_t lane) const;

 private:
  struct Segment {
    int64_t from_step;
    Interleave interleave;
    std::vector<uint64_t> rows_of_set;  // kCounts: of each lane and step
    std::vector<uint64_t> base;         // [set * lanes + lane]: rows before from_step
  };

  Mix(MixUnit unit, int64_t slots, int64_t lanes, int64_t rows)
      : unit_(unit), slots_(slots), lanes_(lanes), rows_(rows) {}
  const Segment& SegmentAt(int64_t step) const;
  // Where a lane begins in the interleave: a slot's lanes spread over it, so that each slot gets its share of each set.
  uint64_t Start(uint64_t lane) const;
  // Rows of set d in the lane in the first `steps` steps of the segment.
  uint64_t RowsOf(const Segment& segment, int d, uint64_t lane, uint64_t steps) const;

  MixUnit unit_;
  int64_t slots_;
  int64_t lanes_;
  int64_t rows_;
  std::vector<Segment> segments_;
};

}  // namespace weft
