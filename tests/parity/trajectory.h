// A short training run under one layout, and what it ends with, put together from all ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "worker/rank_state.h"

namespace weft::testing {

// A contiguous piece of a tensor of the training state, in fp64.
struct StatePiece {
  std::string name;
  std::vector<int64_t> shape;
  TensorBox box;
  int64_t flat_begin = 0;
  std::vector<double> values;
};

// What one rank knows at the end.
struct RankPart {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<StatePiece> state;
};

struct Trajectory {
  // One a step; the same on every rank (checked).
  std::vector<double> losses;
  std::vector<double> norms;
  // "param/NAME", "adam.m/NAME", "adam.v/NAME": whole tensors, each element from exactly one rank (checked), in fp64.
  std::map<std::string, at::Tensor> state;
};

// `recipe.steps()` steps from the golden weights on SyntheticBatches.
StatusOr<RankPart> RunParityRank(const Recipe& recipe, const AxisCommunicators& axes);

// Ranks as threads.
StatusOr<Trajectory> RunOnThreads(const Recipe& recipe);

StatusOr<Trajectory> Assemble(const std::vector<RankPart>& parts);

// The largest error of a tensor of the state, ||a - b|| / max(||b||, 1e-3 sqrt n), of a loss and of a norm.
double MaxRelativeError(const Trajectory& a, const Trajectory& b);
bool SameBits(const Trajectory& a, const Trajectory& b);

}  // namespace weft::testing
