#include "worker/selftest/model_checks.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "models/registry.h"
#include "worker/bench/synthetic_batch.h"
#include "worker/rank_state.h"
#include "worker/train_step.h"

namespace weft {
namespace {

constexpr int kSteps = 4;

struct PrecisionLimit {
  Precision precision;
  const char* name;
  double limit;
};
// Of a loss or a norm. fp64 differs by the order of sums; fp32 and bf16 by what four optimizer steps make of their rounding.
constexpr PrecisionLimit kPrecisions[] = {
    {FP64, "fp64", 1e-9}, {FP32, "fp32", 1e-3}, {BF16, "bf16", 5e-2}};

// Losses and norms, in turn.
StatusOr<std::vector<double>> Train(Recipe recipe, Precision precision,
                                    const ComputeDevice& device) {
  recipe.set_precision(precision);
  WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(recipe));
  WEFT_RETURN_IF_ERROR(
      ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec));
  AxisCommunicators axes;
  axes.device = device;
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<RankState> rank,
                        RankState::Create(recipe, std::move(spec), axes));
  rank->parameters().Initialize(recipe.seed());
  WEFT_RETURN_IF_ERROR(rank->parameters().Publish());
  std::vector<double> values;
  for (int step = 0; step < kSteps; ++step) {
    const std::vector<NamedTensors> batches =
        SyntheticBatches(recipe, rank->parallel().slots(), step);
    WEFT_ASSIGN_OR_RETURN(const StepResult result, TrainStepOn(rank.get(), step, batches));
    values.push_back(result.loss);
    values.push_back(result.grad_norm);
  }
  return values;
}

double LargestError(const std::vector<double>& got, const std::vector<double>& expected) {
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]) / std::abs(expected[i]);
    largest = error <= largest ? largest : error;  // keeps NaN
  }
  return largest;
}

Recipe OneRank(const Recipe& given) {
  Recipe recipe = given;
  recipe.clear_layout();
  return recipe;
}

}  // namespace

StatusOr<std::vector<SelfCheck>> CheckModel(const Recipe& given, const ComputeDevice& device) {
  const Recipe recipe = OneRank(given);
  WEFT_ASSIGN_OR_RETURN(const std::vector<double> expected, Train(recipe, FP64, ComputeDevice()));
  std::vector<SelfCheck> checks;
  for (const auto& [precision, name, limit] : kPrecisions) {
    WEFT_ASSIGN_OR_RETURN(const std::vector<double> got, Train(recipe, precision, device));
    checks.push_back({recipe.name() + ", " + name,
                      "loss and gradient norm of 4 steps against the CPU in fp64",
                      LargestError(got, expected), limit});
    WEFT_ASSIGN_OR_RETURN(const std::vector<double> again, Train(recipe, precision, device));
    checks.push_back({recipe.name() + ", " + name + ", again",
                      "steps whose bits differ from the first run's", got == again ? 0.0 : 1.0, 0});
  }
  return checks;
}

}  // namespace weft
