#include "parallel/engine/engine.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

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
  const Wave& wave = *waves_[static_cast<size_t>(phase.wave)].wave;
  if (wave.losses.size() == 1) context.targets = losses_.Targets(wave.losses[0], micro_batch);
  // The host counts what a device would have to be asked for.
  if (wave.segments && !context_->device().is_cpu())
    context.segments = wave.segments(inputs_.host()[static_cast<size_t>(micro_batch)]);
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
  return RunStep(step,
                 StepInputs(context_->device(), {micro_batches.begin(), micro_batches.end()}));
}

StatusOr<StepOutput> Engine::RunStep(int64_t step, StepInputs inputs) {
  WEFT_CHECK_EQ(inputs.host().size(),
                context_->slots().size() * static_cast<size_t>(options_.micro_batches))
      << "micro-batches of a step";
  step_ = step;
  inputs_ = std::move(inputs);
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
  reports_.clear();
  timeline_.clear();
  reducer_->Begin();
  const at::NoGradGuard no_grad;
  const MemoryScope scope(MemoryCategory::kActivations);
  try {
    WEFT_RETURN_IF_ERROR(losses_.Begin(inputs_.host()));
    for (const auto& join : model_->joins) {
      if (join != nullptr) join->Begin();
    }
    WEFT_RETURN_IF_ERROR(Interpret(program_));
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
      return RunJoin(phases_[static_cast<size_t>(action.phase)]);
    case ActionKind::kTie:
      // The reducer and the store exchange tied pairs at the step's end, with all exchanges done.
      return OkStatus();
  }
  return OkStatus();
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
      NamedTensors values = std::exchange(crossing, {});
      for (const auto& [name, tensor] : inputs) values[name] = context_->device().ToDevice(tensor);
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
    if (context.report) reports_.push_back(std::move(context.report));
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
  for (const JoinContext::Report& report : reports_)
    WEFT_RETURN_IF_ERROR(report(&output.terms, &output.metrics));
  for (const LossTerm& term : output.terms) output.loss += term.value;
  if (context_->pp_size() > 1) {
    const at::Tensor loss = at::full({1}, output.loss, store_->TensorsOf(at::kDouble));
    WEFT_RETURN_IF_ERROR(context_->Wait(context_->pp().AllReduce(
        loss.data_ptr(), 1, DType::kFloat64, ReduceOp::kSum, context_->Op("loss.stages"))));
    WEFT_ASSIGN_OR_RETURN(const at::Tensor sum, context_->ToHost(loss));
    output.loss = sum.item<double>();
  }
  WEFT_RETURN_IF_ERROR(CheckFinite(output, step_));
  step_store_.Clear();
  tapes_.clear();
  inputs_ = StepInputs();
  return output;
}

}  // namespace weft
