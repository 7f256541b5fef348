// Where a rank stands: rank <-> (pp, dp, tp), the groups along each axis, and
// which slots a data-parallel rank computes. Pure integers; nothing here talks
// to anyone.
//
// Ranks are numbered with tp fastest, then dp, then pp: neighbours in tp, which
// talk most, are neighbours on a host.
//
// Errors: InvalidArgument names the field ("layout.dp"), the rule and the
// nearest values that work. Thread rule: values; no sharing.
#pragma once

#include <vector>

#include "cluster/base/status.h"

namespace weft {

class Recipe;

enum class Axis { kPipeline, kData, kTensor };
// "pp", "dp", "tp".
const char* AxisName(Axis axis);

// The degrees of a layout.
struct ParallelDims {
  int pp = 1;
  int dp = 1;
  int tp = 1;

  int Degree(Axis axis) const;
  int world_size() const { return pp * dp * tp; }
  bool operator==(const ParallelDims&) const = default;
};

// Degrees of a valid layout: at least 1 each, dp at most batch.slots.
StatusOr<ParallelDims> MakeParallelDims(const Recipe& recipe);

// MakeParallelDims, and what this build can run: the TCP backend.
Status CheckLayout(const Recipe& recipe);

struct Coordinate {
  int pp = 0;
  int dp = 0;
  int tp = 0;

  int Index(Axis axis) const;
  bool operator==(const Coordinate&) const = default;
};

// Neighbouring slots [first, end()) of a step.
struct SlotRange {
  int first = 0;
  int count = 0;

  int end() const { return first + count; }
  bool operator==(const SlotRange&) const = default;
};

// The slots of one data-parallel rank: contiguous, and as even as they go (the
// first slots % dp ranks have one more). REQUIRES: 1 <= dp <= slots, 0 <=
// dp_rank < dp.
SlotRange SlotsOfRank(int slots, int dp, int dp_rank);
// The data-parallel rank that computes `slot`; the inverse of SlotsOfRank.
int RankOfSlot(int slots, int dp, int slot);

class Mesh {
 public:
  // REQUIRES: all degrees >= 1.
  explicit Mesh(const ParallelDims& dims);

  const ParallelDims& dims() const { return dims_; }
  int world_size() const { return dims_.world_size(); }
  // REQUIRES: 0 <= rank < world_size().
  Coordinate CoordinateOf(int rank) const;
  // REQUIRES: the coordinate lies in the mesh.
  int RankOf(const Coordinate& coordinate) const;
  // The ranks that differ from `rank` in this axis only, in the order of the
  // axis; `rank` is among them.
  std::vector<int> Group(Axis axis, int rank) const;

 private:
  ParallelDims dims_;
};

}  // namespace weft
