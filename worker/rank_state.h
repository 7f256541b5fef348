// Model, gradients and optimizer of one rank: everything of a generation but its data and its connections. Made alike by the
// worker, by tests with ranks as threads, and by benchmarks.
//
// Errors of Create: InvalidArgument for a recipe or layout that does not fit, naming the field.
// Thread rule: one thread.
#pragma once

#include <functional>
#include <memory>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"
#include "parallel/context.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/engine/engine.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/optim/adamw.h"

namespace weft {

// One axis each; null: one rank.
struct AxisCommunicators {
  Communicator* dp = nullptr;
  Communicator* tp = nullptr;
  Communicator* pp = nullptr;
  // Where the rank computes; the communicators take its pointers.
  ComputeDevice device;
};

class RankState {
 public:
  using ModelFactory = std::function<StatusOr<std::unique_ptr<Model>>(
      const Recipe& recipe, const ModelSpec& spec, ParameterStore* store)>;

  // `spec` is the recipe's model with what is trained; the communicators outlive the state. Values are zero: fill them next.
  static StatusOr<std::unique_ptr<RankState>> Create(const Recipe& recipe, ModelSpec spec,
                                                     const AxisCommunicators& axes);
  // With a model that no recipe names.
  static StatusOr<std::unique_ptr<RankState>> Create(const Recipe& recipe, ModelSpec spec,
                                                     const AxisCommunicators& axes,
                                                     const ModelFactory& factory);
  RankState(const RankState&) = delete;
  RankState& operator=(const RankState&) = delete;

  const Recipe& recipe() const { return recipe_; }
  ParallelContext& parallel() { return parallel_; }
  const ParallelContext& parallel() const { return parallel_; }
  ParameterStore& parameters() { return *parameters_; }
  Model& model() { return *model_; }
  GradientReducer& gradients() { return *gradients_; }
  Engine& engine() { return *engine_; }
  AdamW& optimizer() { return *optimizer_; }
  const Stages& stages() const { return stages_; }
  // This rank knows every loss term: the first dp and tp rank of the last stage.
  bool reports() const;

 private:
  RankState(const Recipe& recipe, const AxisCommunicators& axes);

  Recipe recipe_;
  // In the order of construction; later ones point into earlier ones.
  ParallelContext parallel_;
  Stages stages_;
  std::unique_ptr<ParameterStore> parameters_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<GradientReducer> gradients_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<AdamW> optimizer_;
};

}  // namespace weft
