// Runs one step of a model on one rank: interprets the schedule's list of actions (parallel/schedule/action.h) over the
// micro-batches of this rank's slots and the blocks of its stages. The engine is the tape between blocks: forwards run on
// detached inputs, backwards differentiate one block, messages, gathers and exchanges start at block ends.
//
// Errors: those of collectives; Internal with step and term if a loss is not finite (on all ranks alike); InvalidArgument
// from Create where the schedule refuses the layout; exceptions of LibTorch pass through. After an error the step is lost.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/context.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/engine/block_tape.h"
#include "parallel/engine/loss_meter.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/engine/stage_link.h"
#include "parallel/engine/stages.h"
#include "parallel/engine/step_inputs.h"
#include "parallel/engine/step_store.h"
#include "parallel/engine/wave_plan.h"
#include "parallel/schedule/program.h"
#include "parallel/schedule/simulate.h"

namespace weft {

struct EngineOptions {
  uint64_t seed = 0;
  // M, and b: samples of a micro-batch.
  int micro_batches = 1;
  int micro_batch_size = 1;
  // GRAPH keeps the activations of a wave until its backward; FEATURES runs the forward again. Equal bits.
  KeepWave keep_wave = GRAPH;
  // schedule, zero_stage, gather, recompute: equal bits.
  Layout layout;
};

EngineOptions MakeEngineOptions(const Recipe& recipe);

struct StepOutput {
  // Sum of the terms' values; on every rank.
  double loss = 0;
  // Of the losses and joins of this rank's stages: all of them on the last stage's ranks, where every model has them now.
  std::vector<LossTerm> terms;
  std::vector<Metric> metrics;
};

class Engine {
 public:
  // All must outlive the engine. `stages` cuts model->spec.blocks.
  static StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                  const Stages& stages, Model* model,
                                                  ParameterStore* store, GradientReducer* reducer,
                                                  ParallelContext* context);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // `micro_batches`: own slots in order, the M micro-batches of each; their names are the inputs that no block makes
  // ("pixels", "ids"), those of this rank's stages at least. Afterwards every exchange of gradients has been started: call
  // GradientReducer::Finish next.
  StatusOr<StepOutput> RunStep(int64_t step, StepInputs inputs);
  // In the host's memory.
  StatusOr<StepOutput> RunStep(int64_t step, std::span<const NamedTensors> micro_batches);

  // What the first wave makes of one batch of any size, without dropout: its outputs on the last stage's ranks, nothing on
  // the others. `inputs`: those of this rank's stages at least. Every rank calls it alike; between steps.
  StatusOr<NamedTensors> Infer(const NamedTensors& inputs, int64_t samples);

  const Stages& stages() const { return stages_; }
  const ProgramSpec& program_spec() const { return program_spec_; }
  // When this rank computed in the last step, in seconds of the steady clock: forwards, backwards, joins. What is left is
  // communication and bubble.
  const std::vector<TimelineEntry>& timeline() const { return timeline_; }

 private:
  // (wave, stage, own micro-batch)
  using RunKey = std::tuple<int, int, int>;
  using Tape = std::vector<Record>;
  struct PhasePlan {
    bool join = false;
    int wave = 0;
    std::string name;
    // Forwards of the phase keep what a backward needs.
    bool keeps = false;
    // Its forwards fill the step store.
    bool stores = false;
  };

  Engine(const EngineOptions& options, const Stages& stages, Model* model, ParameterStore* store,
         GradientReducer* reducer, ParallelContext* context);
  Status PlanPhases();
  ProgramSpec MakeProgramSpec(const std::vector<PhaseSpec>& phases) const;
  StatusOr<RankProgram> PlanProgram(const ProgramSpec& spec) const;
  void PlanGroups();
  MicroBatchContext ContextOf(const PhasePlan& phase, int micro_batch) const;

  Status Interpret(const RankProgram& program);
  Status Execute(const Action& action);
  Status Forward(const Action& action);
  Status Backward(const Action& action);
  Status BackwardWeight(const Action& action);
  Status Send(const Action& action);
  void Receive(const Action& action);
  Status SlotDone(const Action& action);
  Status RunJoin(const PhasePlan& phase);
  StatusOr<StepOutput> Conclude();

  // The pieces of Forward and Backward.
  StatusOr<NamedTensors> TakeIncoming(std::map<RunKey, StageLink::Incoming>* from,
                                      const RunKey& key);
  void StoreOutputs(const PhasePlan& phase, int stage, int micro_batch, const NamedTensors& values);
  void SeedGradients(const PhasePlan& phase, int stage, int micro_batch, NamedTensors* grads);
  void PassOn(const PhasePlan& phase, const Action& action, NamedTensors* values);
  void PassBack(const PhasePlan& phase, const Action& action, const NamedTensors& grads);
  Status PrepareBlock(int block, int micro_batch);
  Status FinishBlock(const Action& action, int block);
  // The gradient of own slot number `slot` is complete but for those of joins; and a round of slots.
  Status CompleteSlot(int phase, int group, int slot);
  Status LaunchRound(int phase, int group, int round);
  // Parameters of a block over dp, where they are gathered block by block; `next`: the block that comes after it, or -1.
  Status UseBlock(int block, int next);
  Status InferStage(int stage, const MicroBatchContext& context, NamedTensors* values);
  void LeaveBlock(int block);
  MicroBatchContext ForBlock(MicroBatchContext context, int block) const;
  bool IsPhantom(int micro_batch) const;

  EngineOptions options_;
  Stages stages_;
  Model* model_;
  ParameterStore* store_;
  GradientReducer* reducer_;
  ParallelContext* context_;
  TapeMap tape_map_;
  std::vector<Recompute> recomputes_;  // by block
  std::vector<WavePlan> waves_;
  std::vector<PhasePlan> phases_;
  ProgramSpec program_spec_;
  RankProgram program_;
  // By group: the first block with a parameter in it; num_blocks for those of joins only.
  std::vector<int> first_block_of_group_;
  // ZeRO 3: not by the actions of the program, but around each block.
  bool gathers_by_block_ = false;
  StageLink link_;
  LossMeter losses_;

  // Of the running step.
  int64_t step_ = 0;
  StepInputs inputs_;
  StepStore step_store_;
  std::map<RunKey, Tape> tapes_;
  std::map<RunKey, StageLink::Incoming> activations_in_;
  std::map<RunKey, StageLink::Incoming> gradients_in_;
  std::map<RunKey, NamedTensors> activations_out_;
  std::map<RunKey, NamedTensors> gradients_out_;
  std::map<RunKey, DeferredGradients> deferred_;
  std::vector<JoinContext::ParamGrad> join_grads_;
  // (phase, group, own slot) and (phase, group, round)
  std::set<RunKey> completed_;
  std::set<RunKey> launched_;
  std::vector<JoinContext::Report> reports_;
  std::vector<TimelineEntry> timeline_;
};

}  // namespace weft
