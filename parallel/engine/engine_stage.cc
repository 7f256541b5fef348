// What a stage does with a micro-batch: the actions that compute, and those that bring and take tensors.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/engine/engine.h"

namespace weft {
namespace {

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
  const PhasePlan& phase = phases_[static_cast<size_t>(action.phase)];
  const WavePlan::Stage& stage =
      waves_[static_cast<size_t>(phase.wave)].stages[static_cast<size_t>(action.stage)];
  const RunKey key{phase.wave, action.stage, action.micro_batch};
  const bool phantom = IsPhantom(action.micro_batch);
  NamedTensors values;
  Tape tape;
  MicroBatchContext context;
  if (!phantom) {
    WEFT_ASSIGN_OR_RETURN(values, TakeIncoming(&activations_in_, key));
    const NamedTensors& inputs = inputs_.Take(static_cast<size_t>(action.micro_batch));
    values.insert(inputs.begin(), inputs.end());
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
  PassOn(phase, action, &values);
  return OkStatus();
}

// What crosses the border behind the stage: to the stage itself if it is here, else for kSendForward.
void Engine::PassOn(const PhasePlan& phase, const Action& action, NamedTensors* values) {
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  NamedTensors crossing;
  for (const ActivationSpec& spec : plan.stages[static_cast<size_t>(action.stage)].crossing)
    crossing[spec.name] = std::move(values->at(spec.name));
  if (stages_.IsOwn(action.stage + 1)) {
    activations_in_[{phase.wave, action.stage + 1, action.micro_batch}] =
        StageLink::Local(std::move(crossing));
  } else {
    activations_out_[{phase.wave, action.stage, action.micro_batch}] = std::move(crossing);
  }
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
        (*grads)[output.name] = at::scalar_tensor(losses_.Weight(loss, micro_batch),
                                                  store_->TensorsOf(store_->accumulate_type()));
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
  if (!phantom && action.stage > 0) PassBack(phase, action, grads);
  return OkStatus();
}

// The gradients of what crosses the border before the stage.
void Engine::PassBack(const PhasePlan& phase, const Action& action, const NamedTensors& grads) {
  const WavePlan& plan = waves_[static_cast<size_t>(phase.wave)];
  NamedTensors crossing;
  for (const ActivationSpec& spec :
       plan.stages[static_cast<size_t>(action.stage) - 1].crossing_grads) {
    const auto it = grads.find(spec.name);
    // Nobody asked for a gradient of it: the other side gets zeros.
    crossing[spec.name] =
        it != grads.end()
            ? it->second
            : at::zeros(LocalActivationShape(spec, options_.micro_batch_size, *context_),
                        store_->TensorsOf(spec.wide ? store_->accumulate_type()
                                                    : ComputeType(store_->precision())));
  }
  if (stages_.IsOwn(action.stage - 1)) {
    gradients_in_[{phase.wave, action.stage - 1, action.micro_batch}] =
        StageLink::Local(std::move(crossing));
  } else {
    gradients_out_[{phase.wave, action.stage, action.micro_batch}] = std::move(crossing);
  }
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
  const PhasePlan& phase = phases_[static_cast<size_t>(action.phase)];
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
  const PhasePlan& phase = phases_[static_cast<size_t>(action.phase)];
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

Status Engine::SlotDone(const Action& action) {
  if (action.round >= static_cast<int>(context_->slots().size())) return OkStatus();
  for (const int group : store_->GroupsOfStage(action.stage))
    WEFT_RETURN_IF_ERROR(CompleteSlot(action.phase, group, action.round));
  return OkStatus();
}

}  // namespace weft
