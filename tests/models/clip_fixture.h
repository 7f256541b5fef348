// One rank of a CLIP run as the worker builds it, on the golden weights and inputs or on any recipe.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"
#include "parallel/data/grad_norm.h"
#include "worker/rank_state.h"

namespace weft::testing {

// CLIP(24, 32, 2, 64, 8, 12, 99, 64, 2, 2) in FP64, AdamW as in the golden trajectory; the 4 pairs as
// slots * micro_batches * b.
Recipe GoldenRecipe(int slots, int micro_batches);

class ClipRank {
 public:
  // `dp` null: one rank.
  ClipRank(const Recipe& recipe, Communicator* dp);

  // Golden pairs of the own slots, or synthetic pairs.
  std::vector<NamedTensors> GoldenBatches() const;
  std::vector<NamedTensors> RandomBatches(int64_t step) const;

  // RunStep and Finish; the gradients are then in the reducer.
  StepOutput Gradients(int64_t step, const std::vector<NamedTensors>& batches);
  // ... and norm, clipping, AdamW.
  StepOutput TrainStep(int64_t step, const std::vector<NamedTensors>& batches, double lr);
  // The whole gradient of a parameter, in fp64, if this rank is alone or by gathering; a collective.
  at::Tensor Gradient(const std::string& name);
  // All values as bytes, for comparisons.
  std::string ValueBytes() const;

  Recipe recipe;
  ModelSpec spec;
  std::unique_ptr<RankState> state;
  ParallelContext& context;
  ParameterStore& store;
  GradientReducer& reducer;
  Engine& engine;
  AdamW& optimizer;
  double norm = 0;
};

}  // namespace weft::testing
