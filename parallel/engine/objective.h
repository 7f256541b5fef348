// An objective as data: phases that the engine runs one after the other. A Forward runs a wave (a run of blocks) on every
// micro-batch of this rank's slots and puts its outputs into the step store; a Join reads them as leaves, computes losses
// over a slot or over all slots, and leaves gradients; a Backward runs the wave's blocks backward from those. CLIP is
// Forward, Join, Backward; objectives whose negatives need similarities first have two waves.
//
// Errors: a Join returns those of its collectives. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "models/spec/model_spec.h"
#include "parallel/context.h"
#include "parallel/engine/block.h"
#include "parallel/engine/parameter.h"
#include "parallel/engine/step_store.h"

namespace weft {

// kTrain: forward and backward of a wave whose losses are outputs of its blocks, in the order of the schedule.
enum class PhaseKind { kForward, kJoin, kBackward, kTrain };

struct Phase {
  PhaseKind kind = PhaseKind::kForward;
  // Of the wave or the join.
  std::string name;
};

// What the mean of a loss term is taken over: the global batch, a slot (a paper's per-GPU mean), a micro-batch.
enum class LossScope { kGlobal, kSlot, kMicroBatch };

// A loss that a block computes: its output `activation`, a scalar, is the sum over the micro-batch's targets.
struct LossOutput {
  std::string activation;
  // Of the term.
  std::string name;
  LossScope scope = LossScope::kGlobal;
  // Targets of a micro-batch, from its inputs.
  std::function<int64_t(const NamedTensors& inputs)> count;
};

// Blocks [first_block, end_block) of the model, run in this order. `outputs` go into the step store.
struct Wave {
  std::string name;
  int first_block = 0;
  int end_block = 0;
  std::vector<std::string> outputs;
  std::vector<LossOutput> losses;
  // MicroBatchContext::segments, from a micro-batch's inputs; empty: its rows are not packed.
  std::function<int64_t(const NamedTensors& inputs)> segments;
};

// The weight of one contribution: 1/N, 1/(V n_slot) or 1/(V M n_micro_batch) with `count` the N or n in question; zero
// where the count is zero.
double LossWeight(LossScope scope, double count, int num_slots, int micro_batches);

// A term of the loss, the same on every rank: its value is weight * sum for kGlobal, and a sum of such products else.
struct LossTerm {
  std::string name;
  double value = 0;
};

struct Metric {
  std::string name;
  double value = 0;
};

// What a join sees of the step.
struct JoinContext {
  ParallelContext* parallel = nullptr;
  StepStore* store = nullptr;
  int64_t step = 0;
  uint64_t seed = 0;
  int micro_batches = 1;
  // Adds the join's terms and metrics, equal on all ranks. Called at the step's end, when the host waits for the device
  // anyway: until then they lie there.
  using Report = std::function<Status(std::vector<LossTerm>* terms, std::vector<Metric>* metrics)>;
  Report report;
  // Gradients of the join's own parameters from each own slot; the engine adds them to the slot's gradient.
  struct ParamGrad {
    Parameter* parameter = nullptr;
    int slot = 0;
    at::Tensor grad;
  };
  std::vector<ParamGrad> param_grads;
};

class JoinBlock {
 public:
  explicit JoinBlock(JoinSpec spec) : spec_(std::move(spec)) {}
  virtual ~JoinBlock() = default;
  JoinBlock(const JoinBlock&) = delete;
  JoinBlock& operator=(const JoinBlock&) = delete;

  // Once a step, before anything runs: values of parameters are there, and nothing has to be waited for.
  virtual void Begin() {}
  // Collectives are the same on every rank, whatever the data.
  virtual Status Run(JoinContext* context) = 0;
  const JoinSpec& spec() const { return spec_; }

 private:
  JoinSpec spec_;
};

struct Objective {
  std::vector<Wave> waves;
  std::vector<Phase> phases;
};

// A model ready to run: blocks and joins hold pointers into the ParameterStore that they were made with. A block or join
// whose parameters are not in the store is null: it runs on another pipeline rank.
struct Model {
  ModelSpec spec;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::unique_ptr<JoinBlock>> joins;
  Objective objective;
};

}  // namespace weft
