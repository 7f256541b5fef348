#include "parallel/engine/engine.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/memory/memory_meter.h"
#include "parallel/tensor/comm_error.h"

namespace weft {
namespace {

Status CheckFinite(const StepOutput& output, int64_t step) {
  const auto error = [step](const std::string& what, double value) {
    return Internal("step " + std::to_string(step) + ": " + what + " is " + std::to_string(value) +
                    "; lower optimizer.lr or set optimizer.clip_norm");
  };
  for (const LossTerm& term : output.terms) {
    if (!std::isfinite(term.value)) return error("loss term '" + term.name + "'", term.value);
  }
  return std::isfinite(output.loss) ? OkStatus() : error("the loss", output.loss);
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Notes an action from here to its end.
class Stopwatch {
 public:
  Stopwatch(const Action& action, std::vector<TimelineEntry>* timeline)
      : timeline_(timeline), entry_{action, Now(), 0} {}
  ~Stopwatch() {
    entry_.end = Now();
    timeline_->push_back(entry_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  std::vector<TimelineEntry>* timeline_;
  TimelineEntry entry_;
};

}  // namespace

double LossWeight(LossScope scope, double count, int num_slots, int micro_batches) {
  if (count == 0) return 0;
  switch (scope) {
    case LossScope::kGlobal:
      return 1 / count;
    case LossScope::kSlot:
      return 1 / (num_slots * count);
    case LossScope::kMicroBatch:
      return 1 / (static_cast<double>(num_slots) * micro_batches * count);
  }
  return 0;
}

MicroBatchContext Engine::ContextOf(const PhasePlan& phase, int micro_batch) const {
  MicroBatchContext context;
  context.seed = options_.seed;
  context.step = step_;
  context.slot = context_->slots()[static_cast<size_t>(micro_batch / options_.micro_batches)];
  context.micro_batch = micro_batch % options_.micro_batches;
  context.wave = phase.name;
  const int64_t index =
      static_cast<int64_t>(context.slot) * options_.micro_batches + context.micro_batch;
  context.first_row = index * options_.micro_batch_size;
  context.samples = options_.micro_batch_size;
  context.training = true;
  return context;
}

MicroBatchContext Engine::ForBlock(MicroBatchContext context, int block) const {
  context.selective_recompute = recomputes_[static_cast<size_t>(block)] == RECOMPUTE_SELECTIVE;
  return context;
}

bool Engine::IsPhantom(int micro_batch) const {
  return micro_batch >= static_cast<int>(context_->slots().size()) * options_.micro_batches;
}

StatusOr<StepOutput> Engine::RunStep(int64_t step, std::span<const NamedTensors> micro_batches) {
  return Run(step, micro_batches, true);
}

StatusOr<StepOutput> Engine::RunForward(int64_t step, std::span<const NamedTensors> micro_batches) {
  return Run(step, micro_batches, false);
}

StatusOr<StepOutput> Engine::Run(int64_t step, std::span<const NamedTensors> micro_batches,
                                 bool training) {
  WEFT_CHECK_EQ(micro_batches.size(),
                context_->slots().size() * static_cast<size_t>(options_.micro_batches))
      << "micro-batches of a step";
  step_ = step;
  training_ = training;
  inputs_ = micro_batches;
  step_store_.Clear();
  tapes_.clear();
  activations_in_.clear();
  gradients_in_.clear();
  activations_out_.clear();
  gradients_out_.clear();
  deferred_.clear();
  join_grads_.clear();
  completed_.clear();
  launched_.clear();
  join_terms_.clear();
  metrics_.clear();
  timeline_.clear();
  if (training) reducer_->Begin();
  const at::NoGradGuard no_grad;
  const MemoryScope scope(MemoryCategory::kActivations);
  try {
    WEFT_RETURN_IF_ERROR(losses_.Begin(inputs_));
    WEFT_RETURN_IF_ERROR(Interpret(training ? program_ : forward_program_));
  } catch (const CommError& error) {
    return error.status();
  }
  WEFT_RETURN_IF_ERROR(link_.Flush());
  return Conclude();
}

Status Engine::Interpret(const RankProgram& program) {
  for (const Action& action : program) WEFT_RETURN_IF_ERROR(Execute(action));
  return OkStatus();
}

Status Engine::Execute(const Action& action) {
  switch (action.kind) {
    case ActionKind::kForward:
      return Forward(action);
    case ActionKind::kBackward:
    case ActionKind::kBackwardInput:
      return Backward(action);
    case ActionKind::kBackwardWeight:
      return BackwardWeight(action);
    case ActionKind::kSendForward:
    case ActionKind::kSendBackward:
      return Send(action);
    case ActionKind::kRecvForward:
    case ActionKind::kRecvBackward:
      Receive(action);
      return OkStatus();
    case ActionKind::kSlotDone:
      return SlotDone(action);
    case ActionKind::kReduce:
      for (const int group : store_->GroupsOfStage(action.stage))
        WEFT_RETURN_IF_ERROR(LaunchRound(action.phase, group, action.round));
      return OkStatus();
    case ActionKind::kGather:
      if (gathers_by_block_) return OkStatus();
      for (size_t g = 0; g < store_->groups().size(); ++g) {
        if (store_->groups()[g].stage == action.stage) store_->LaunchGather(static_cast<int>(g));
      }
      return OkStatus();
    case ActionKind::kRelease:
      if (gathers_by_block_) return OkStatus();
      for (const int group : store_->GroupsOfStage(action.stage)) store_->Release(group);
      return OkStatus();
    case ActionKind::kJoin:
      return RunJoin((training_ ? phases_ : forward_phases_)[static_cast<size_t>(action.phase)]);
    case ActionKind::kTie:
      // The reducer and the store exchange tied pairs at the step's end, with all exchanges done.
      return OkStatus();
  }
  return OkStatus();
}

Status Engine::UseBlock(int block, int next) {
  const auto groups_of = [&](int b) -> const std::vector<int>& {
    return store_->GroupsOfOwner(model_->spec.blocks[static_cast<size_t>(b)].name);
  };
  if (gathers_by_block_) {
    for (const int group : groups_of(block)) store_->LaunchGather(group);
    if (next >= 0) {
      for (const int group : groups_of(next)) store_->LaunchGather(group);
    }
  }
  for (const int group : groups_of(block)) WEFT_RETURN_IF_ERROR(store_->WaitGather(group));
  return OkStatus();
}

void Engine::LeaveBlock(int block) {
  if (!gathers_by_block_) return;
  const BlockSpec& spec = model_->spec.blocks[static_cast<size_t>(block)];
  for (const int group : store_->GroupsOfOwner(spec.name)) store_->Release(group);
}

StatusOr<NamedTensors> Engine::TakeIncoming(std::map<RunKey, StageLink::Incoming>* from,
                                            const RunKey& key) {
  const auto it = from->find(key);
  if (it == from->end()) return NamedTensors();
  StageLink::Incoming incoming = std::move(it->second);
  from->erase(it);
  return incoming.Take();
}

Status Engine::Forward(const Action& action) {
  const PhasePlan& phase =
      (training_ ? phases_ : forward_phases_)[static_cast<size_t>(action.phase)];
  const WavePlan::Stage& stage =
      waves_[static_cast<size_t>(phase.wave)].stages[static_cast<size_t>(action.stage)];
  const RunKey key{phase.wave, action.stage, action.micro_batch};
  const bool phantom = IsPhantom(action.micro_batch);
  NamedTensors values;
  Tape tape;
  MicroBatchContext context;
  if (!phantom) {
    WEFT_ASSIGN_OR_RETURN(values, TakeIncoming(&activations_in_, key));
    values.insert(inputs_[static_cast<size_t>(action.micro_batch)].begin(),
                  inputs_[static_cast<size_t>(action.micro_batch)].end());
    context = ContextOf(phase, action.micro_batch);
  }
  const Stopwatch watch(action, &timeline_);
  for (int b = stage.first_block; b < stage.end_block; ++b) {
    WEFT_RETURN_IF_ERROR(UseBlock(b, b + 1 < stage.end_block ? b + 1 : -1));
    if (!phantom) {
      const bool taped = phase.keeps && tape_map_.taped[static_cast<size_t>(b)];
      const bool again = recomputes_[static_cast<size_t>(b)] == RECOMPUTE_FULL;
      const Keep keep = !taped ? Keep::kNothing : again ? Keep::kInputs : Keep::kGraph;
      tape.push_back(ForwardBlock(model_->blocks[static_cast<size_t>(b)].get(),
                                  ForBlock(context, b), keep, tape_map_.needs_grad, &values));
    }
    LeaveBlock(b);
  }
  if (phantom) return OkStatus();
  if (phase.keeps) tapes_[key] = std::move(tape);
  if (phase.stores) StoreOutputs(phase, action.stage, action.micro_batch, values);
  if (action.stage == stages_.last()) return OkStatus();
  NamedTensors crossing;
  for (const ActivationSpec& spec : stage.crossing) crossing[spec.name] = values.at(spec.name);
  if (stages_.IsOwn(action.stage + 1)) {
    activations_in_[{phase.wave, action.stage + 1, action.micro_batch}] =
        StageLink::Local(std::move(crossing));
  } else {
    activations_out_[key] = std::move(crossing);
  }
  return OkStatus();
}

void Engine::StoreOutputs(const PhasePlan& phase, int stage, int micro_batch,
                          const NamedTensors& values) {
  const Wave& wave = *waves_[static_cast<size_t>(phase.wave)].wave;
  const MicroBatchContext context = ContextOf(phase, micro_batch);
  if (stage == stages_.last()) {
    for (const std::string& name : wave.outputs)
      step_store_.Put({wave.name, name, context.slot, context.micro_batch}, values.at(name));
  }
  for (const LossOutput& loss : wave.losses) {
    const auto it = values.find(loss.activation);
    if (it != values.end()) losses_.Add(loss, micro_batch, it->second);
  }
}

void Engine::SeedGradients(const PhasePlan& phase, int stage, int micro_batch,
                           NamedTensors* grads) {
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  const MicroBatchContext context = ContextOf(phase, micro_batch);
  if (stage == stages_.last()) {
    for (const std::string& name : plan.wave->outputs) {
      const at::Tensor grad =
          step_store_.Grad({plan.wave->name, name, context.slot, context.micro_batch});
      if (grad.defined()) (*grads)[name] = grad;
    }
  }
  for (const LossOutput& loss : plan.wave->losses) {
    const WavePlan::Stage& blocks = plan.stages[static_cast<size_t>(stage)];
    for (int b = blocks.first_block; b < blocks.end_block; ++b) {
      for (const ActivationSpec& output : model_->spec.blocks[static_cast<size_t>(b)].outputs) {
        if (output.name != loss.activation) continue;
        (*grads)[output.name] =
            at::scalar_tensor(losses_.Weight(loss, micro_batch), store_->accumulate_type());
      }
    }
  }
}

Status Engine::Backward(const Action& action) {
  const PhasePlan& phase = phases_[static_cast<size_t>(action.phase)];
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  const WavePlan::Stage& stage = plan.stages[static_cast<size_t>(action.stage)];
  const RunKey key{phase.wave, action.stage, action.micro_batch};
  const bool phantom = IsPhantom(action.micro_batch);
  const bool split = action.kind == ActionKind::kBackwardInput;
  NamedTensors grads;
  Tape tape;
  MicroBatchContext context;
  if (!phantom) {
    WEFT_ASSIGN_OR_RETURN(grads, TakeIncoming(&gradients_in_, key));
    SeedGradients(phase, action.stage, action.micro_batch, &grads);
    tape = std::move(tapes_.at(key));
    tapes_.erase(key);
    context = ContextOf(phase, action.micro_batch);
  }
  const Stopwatch watch(action, &timeline_);
  for (int b = stage.end_block - 1; b >= stage.first_block; --b) {
    if (tape_map_.taped[static_cast<size_t>(b)]) {
      int next = b - 1;
      while (next >= stage.first_block && !tape_map_.taped[static_cast<size_t>(next)]) --next;
      WEFT_RETURN_IF_ERROR(UseBlock(b, next >= stage.first_block ? next : -1));
      if (!phantom) {
        if (!split) WEFT_RETURN_IF_ERROR(PrepareBlock(b, action.micro_batch));
        BackwardBlock(model_->blocks[static_cast<size_t>(b)].get(), ForBlock(context, b),
                      std::move(tape[static_cast<size_t>(b - stage.first_block)]),
                      split ? &deferred_[key] : nullptr, &grads);
      }
      LeaveBlock(b);
    }
    if (!split) WEFT_RETURN_IF_ERROR(FinishBlock(action, b));
  }
  if (phantom || action.stage == 0) return OkStatus();
  const WavePlan::Stage& before = plan.stages[static_cast<size_t>(action.stage) - 1];
  NamedTensors crossing;
  for (const ActivationSpec& spec : before.crossing_grads) {
    const auto it = grads.find(spec.name);
    // Nobody asked for a gradient of it: the other side gets zeros.
    crossing[spec.name] =
        it != grads.end()
            ? it->second
            : at::zeros(LocalActivationShape(spec, options_.micro_batch_size, *context_),
                        at::TensorOptions(spec.wide ? store_->accumulate_type()
                                                    : ComputeType(store_->precision())));
  }
  if (stages_.IsOwn(action.stage - 1)) {
    gradients_in_[{phase.wave, action.stage - 1, action.micro_batch}] =
        StageLink::Local(std::move(crossing));
  } else {
    gradients_out_[key] = std::move(crossing);
  }
  return OkStatus();
}

// Before the first gradient of a slot is added to a block's parameters.
Status Engine::PrepareBlock(int block, int micro_batch) {
  if (micro_batch % options_.micro_batches != 0) return OkStatus();
  const int slot = micro_batch / options_.micro_batches;
  for (const int group :
       store_->GroupsOfOwner(model_->spec.blocks[static_cast<size_t>(block)].name))
    WEFT_RETURN_IF_ERROR(reducer_->Prepare(group, slot));
  return OkStatus();
}

// After a slot's last backward of a block: the groups that are complete with it start their way at once. Ranks that lack
// the slot do so at the same place, so that all of them exchange and gather in one order.
Status Engine::FinishBlock(const Action& action, int block) {
  if ((action.micro_batch + 1) % options_.micro_batches != 0) return OkStatus();
  const int slot = action.micro_batch / options_.micro_batches;
  const bool interleaved = context_->slot_order() == SlotOrder::kInterleaved;
  const bool last_slot = slot + 1 == static_cast<int>(context_->slots().size());
  for (const int group : store_->GroupsOfStage(action.stage)) {
    if (first_block_of_group_[static_cast<size_t>(group)] != block) continue;
    if (!IsPhantom(action.micro_batch))
      WEFT_RETURN_IF_ERROR(CompleteSlot(action.phase, group, slot));
    if (interleaved) WEFT_RETURN_IF_ERROR(LaunchRound(action.phase, group, slot));
    if (!interleaved && last_slot) WEFT_RETURN_IF_ERROR(LaunchRound(action.phase, group, 0));
  }
  return OkStatus();
}

Status Engine::CompleteSlot(int phase, int group, int slot) {
  if (!completed_.emplace(phase, group, slot).second) return OkStatus();
  WEFT_RETURN_IF_ERROR(reducer_->Prepare(group, slot));
  for (JoinContext::ParamGrad& grad : join_grads_) {
    if (grad.parameter == nullptr || grad.parameter->group != group ||
        grad.slot != context_->slots()[static_cast<size_t>(slot)])
      continue;
    if (grad.parameter->trainable()) grad.parameter->main_grad.add_(grad.grad);
    grad.parameter = nullptr;
  }
  reducer_->SlotDone(group, slot);
  return OkStatus();
}

Status Engine::LaunchRound(int phase, int group, int round) {
  if (!launched_.emplace(phase, group, round).second) return OkStatus();
  return reducer_->Launch(group, round);
}

Status Engine::BackwardWeight(const Action& action) {
  const PhasePlan& phase = phases_[static_cast<size_t>(action.phase)];
  if (IsPhantom(action.micro_batch)) return OkStatus();
  const auto it = deferred_.find({phase.wave, action.stage, action.micro_batch});
  if (it == deferred_.end()) return OkStatus();
  const WavePlan::Stage& stage =
      waves_[static_cast<size_t>(phase.wave)].stages[static_cast<size_t>(action.stage)];
  for (int b = stage.first_block; b < stage.end_block; ++b)
    WEFT_RETURN_IF_ERROR(PrepareBlock(b, action.micro_batch));
  const Stopwatch watch(action, &timeline_);
  for (const auto& add : it->second) add();
  deferred_.erase(it);
  return OkStatus();
}

Status Engine::Send(const Action& action) {
  if (IsPhantom(action.micro_batch)) return OkStatus();
  const PhasePlan& phase =
      (training_ ? phases_ : forward_phases_)[static_cast<size_t>(action.phase)];
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  const RunKey key{phase.wave, action.stage, action.micro_batch};
  if (action.kind == ActionKind::kSendForward) {
    link_.Send(action.peer, plan.stages[static_cast<size_t>(action.stage)].crossing,
               activations_out_.at(key), "activations");
    activations_out_.erase(key);
  } else {
    link_.Send(action.peer, plan.stages[static_cast<size_t>(action.stage) - 1].crossing_grads,
               gradients_out_.at(key), "gradients");
    gradients_out_.erase(key);
  }
  return OkStatus();
}

void Engine::Receive(const Action& action) {
  if (IsPhantom(action.micro_batch)) return;
  const PhasePlan& phase =
      (training_ ? phases_ : forward_phases_)[static_cast<size_t>(action.phase)];
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  const RunKey key{phase.wave, action.stage, action.micro_batch};
  const at::ScalarType compute = ComputeType(store_->precision());
  const at::ScalarType wide = store_->accumulate_type();
  if (action.kind == ActionKind::kRecvForward) {
    activations_in_[key] =
        link_.Recv(action.peer, plan.stages[static_cast<size_t>(action.stage) - 1].crossing,
                   options_.micro_batch_size, compute, wide, "activations");
  } else {
    gradients_in_[key] =
        link_.Recv(action.peer, plan.stages[static_cast<size_t>(action.stage)].crossing_grads,
                   options_.micro_batch_size, compute, wide, "gradients");
  }
}

StatusOr<NamedTensors> Engine::Infer(const NamedTensors& inputs, int64_t samples) {
  const at::NoGradGuard no_grad;
  const WavePlan& plan = waves_[0];
  MicroBatchContext context;
  context.samples = samples;
  context.wave = plan.wave->name;
  context.training = false;
  const at::ScalarType compute = ComputeType(store_->precision());
  NamedTensors crossing;
  NamedTensors outputs;
  try {
    for (int stage = 0; stage < stages_.count(); ++stage) {
      if (!stages_.IsOwn(stage)) continue;
      if (stage > 0 && !stages_.IsOwn(stage - 1)) {
        StageLink::Incoming incoming = link_.Recv(
            stages_.RankOf(stage - 1), plan.stages[static_cast<size_t>(stage) - 1].crossing,
            samples, compute, store_->accumulate_type(), "eval.activations");
        WEFT_ASSIGN_OR_RETURN(crossing, incoming.Take());
      }
      NamedTensors values = std::move(crossing);
      values.insert(inputs.begin(), inputs.end());
      WEFT_RETURN_IF_ERROR(InferStage(stage, context, &values));
      if (stage == stages_.last()) {
        for (const std::string& name : plan.wave->outputs) outputs[name] = values.at(name);
      } else if (stages_.IsOwn(stage + 1)) {
        crossing = std::move(values);
      } else {
        link_.Send(stages_.RankOf(stage + 1), plan.stages[static_cast<size_t>(stage)].crossing,
                   values, "eval.activations");
      }
    }
  } catch (const CommError& error) {
    return error.status();
  }
  WEFT_RETURN_IF_ERROR(link_.Flush());
  return outputs;
}

Status Engine::InferStage(int stage, const MicroBatchContext& context, NamedTensors* values) {
  const WavePlan::Stage& blocks = waves_[0].stages[static_cast<size_t>(stage)];
  for (int b = blocks.first_block; b < blocks.end_block; ++b) {
    const BlockSpec& spec = model_->spec.blocks[static_cast<size_t>(b)];
    for (const int group : store_->GroupsOfOwner(spec.name)) store_->LaunchGather(group);
    for (const int group : store_->GroupsOfOwner(spec.name))
      WEFT_RETURN_IF_ERROR(store_->WaitGather(group));
    ForwardBlock(model_->blocks[static_cast<size_t>(b)].get(), context, Keep::kNothing,
                 tape_map_.needs_grad, values);
    for (const int group : store_->GroupsOfOwner(spec.name)) store_->Release(group);
  }
  return OkStatus();
}

Status Engine::SlotDone(const Action& action) {
  if (action.round >= static_cast<int>(context_->slots().size())) return OkStatus();
  for (const int group : store_->GroupsOfStage(action.stage))
    WEFT_RETURN_IF_ERROR(CompleteSlot(action.phase, group, action.round));
  return OkStatus();
}

Status Engine::RunJoin(const PhasePlan& phase) {
  for (const auto& join : model_->joins) {
    if (join == nullptr || join->spec().name != phase.name) continue;
    JoinContext context;
    context.parallel = context_;
    context.store = &step_store_;
    context.step = step_;
    context.seed = options_.seed;
    context.micro_batches = options_.micro_batches;
    WEFT_RETURN_IF_ERROR(join->Run(&context));
    join_terms_.insert(join_terms_.end(), context.terms.begin(), context.terms.end());
    metrics_.insert(metrics_.end(), context.metrics.begin(), context.metrics.end());
    join_grads_.insert(join_grads_.end(), context.param_grads.begin(), context.param_grads.end());
    return OkStatus();
  }
  WEFT_CHECK(false) << "the model has no join " << phase.name;
  return OkStatus();
}

// Losses of blocks have one value on their stage and exact zeros on the others; joins are on the last stage.
StatusOr<StepOutput> Engine::Conclude() {
  StepOutput output;
  WEFT_ASSIGN_OR_RETURN(output.terms, losses_.Finish());
  output.terms.insert(output.terms.end(), join_terms_.begin(), join_terms_.end());
  output.metrics = std::move(metrics_);
  for (const LossTerm& term : output.terms) output.loss += term.value;
  if (context_->pp_size() > 1) {
    WEFT_RETURN_IF_ERROR(context_->Wait(context_->pp().AllReduce(
        &output.loss, 1, DType::kFloat64, ReduceOp::kSum, context_->Op("loss.stages"))));
  }
  WEFT_RETURN_IF_ERROR(CheckFinite(output, step_));
  step_store_.Clear();
  tapes_.clear();
  return output;
}

}  // namespace weft
