// Runs one step of a model on one pipeline stage: the phases of its objective over the micro-batches of this rank's slots.
// The engine is the tape between blocks. Backward runs the blocks in reverse order, micro-batch by micro-batch; after a
// slot's last micro-batch its gradient goes to the slot tree. Nothing here depends on the number of ranks.
//
// Errors: those of collectives; Internal with step and term if a loss is not finite (on all ranks alike); exceptions of
// LibTorch pass through. After an error the step is lost; the next RunStep starts afresh.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/context.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/engine/block.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/engine/step_store.h"

namespace weft {

struct EngineOptions {
  uint64_t seed = 0;
  // M, and b: samples of a micro-batch.
  int micro_batches = 1;
  int micro_batch_size = 1;
  // GRAPH keeps the activations of a wave until its backward; FEATURES runs the forward again. Equal bits.
  KeepWave keep_wave = GRAPH;
};

struct StepOutput {
  // Sum of the terms' values.
  double loss = 0;
  std::vector<LossTerm> terms;
  std::vector<Metric> metrics;
};

class Engine {
 public:
  // All must outlive the engine.
  Engine(const EngineOptions& options, Model* model, ParameterStore* store,
         GradientReducer* reducer, ParallelContext* context);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // `micro_batches`: own slots in order, the M micro-batches of each; their names are the inputs that no block makes
  // ("pixels", "ids", "eot"). Afterwards the reducer holds the gradient of every own slot: call Exchange on it next.
  StatusOr<StepOutput> RunStep(int64_t step, std::span<const NamedTensors> micro_batches);

  // The same forward without tape or gradients: loss and metrics only.
  StatusOr<StepOutput> RunForward(int64_t step, std::span<const NamedTensors> micro_batches);

 private:
  // A block that ran and waits for its backward.
  struct Record {
    std::vector<at::Tensor> inputs;
    std::vector<at::Tensor> outputs;
  };
  // All blocks of a wave on one micro-batch; empty where nothing was kept.
  using Tape = std::vector<Record>;
  struct MicroBatchId {
    int slot = 0;
    int micro_batch = 0;
  };

  void FindTapedBlocks();
  const Wave& FindWave(const std::string& name) const;
  MicroBatchContext ContextOf(const Wave& wave, MicroBatchId id, bool training) const;
  const NamedTensors& Input(MicroBatchId id) const;

  StatusOr<StepOutput> Run(int64_t step, std::span<const NamedTensors> micro_batches,
                           bool training);
  void ForwardWave(const Wave& wave, bool keep_graph);
  // Returns the wave's outputs; fills `tape` if there is one.
  NamedTensors ForwardMicroBatch(const Wave& wave, MicroBatchId id, Tape* tape);
  Status RunJoin(const std::string& name, StepOutput* output);
  void BackwardWave(const Wave& wave);
  void BackwardMicroBatch(const Wave& wave, MicroBatchId id, Tape* tape);
  void BackwardBlock(const Block& block, Record* record, NamedTensors* grads);
  Status CheckFinite(const StepOutput& output) const;

  EngineOptions options_;
  Model* model_;
  ParameterStore* store_;
  GradientReducer* reducer_;
  ParallelContext* context_;
  // By block: it needs a backward. By activation: it gets a gradient.
  std::vector<bool> taped_;
  std::map<std::string, bool> needs_grad_;
  int backward_waves_ = 0;

  // Of the running step.
  int64_t step_ = 0;
  std::span<const NamedTensors> inputs_;
  StepStore step_store_;
  std::map<StoreKey, Tape> tapes_;
  std::vector<JoinContext::ParamGrad> join_grads_;
};

}  // namespace weft
