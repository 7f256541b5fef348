#include "parallel/engine/engine.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {

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

Engine::Engine(const EngineOptions& options, Model* model, ParameterStore* store,
               GradientReducer* reducer, ParallelContext* context)
    : options_(options), model_(model), store_(store), reducer_(reducer), context_(context) {
  FindTapedBlocks();
  for (const Phase& phase : model_->objective.phases)
    backward_waves_ += phase.kind == PhaseKind::kBackward;
}

// A block needs a tape if it trains a parameter or if one of its inputs wants a gradient.
void Engine::FindTapedBlocks() {
  for (const auto& block : model_->blocks) {
    bool taped = false;
    for (const Parameter* parameter : block->parameters()) taped = taped || parameter->trainable();
    for (const ActivationSpec& input : block->spec().inputs)
      taped = taped || needs_grad_[input.name];
    for (const ActivationSpec& output : block->spec().outputs)
      needs_grad_[output.name] = taped && output.differentiable;
    taped_.push_back(taped);
  }
}

const Wave& Engine::FindWave(const std::string& name) const {
  for (const Wave& wave : model_->objective.waves) {
    if (wave.name == name) return wave;
  }
  WEFT_CHECK(false) << "the objective has no wave " << name;
  return model_->objective.waves[0];
}

MicroBatchContext Engine::ContextOf(const Wave& wave, MicroBatchId id, bool training) const {
  MicroBatchContext context;
  context.seed = options_.seed;
  context.step = step_;
  context.slot = id.slot;
  context.micro_batch = id.micro_batch;
  context.wave = wave.name;
  const int64_t index = static_cast<int64_t>(id.slot) * options_.micro_batches + id.micro_batch;
  context.first_row = index * options_.micro_batch_size;
  context.samples = options_.micro_batch_size;
  context.training = training;
  return context;
}

const NamedTensors& Engine::Input(MicroBatchId id) const {
  const std::vector<int>& own = context_->slots();
  const auto own_slot = std::lower_bound(own.begin(), own.end(), id.slot) - own.begin();
  return inputs_[static_cast<size_t>(own_slot * options_.micro_batches + id.micro_batch)];
}

StatusOr<StepOutput> Engine::RunStep(int64_t step, std::span<const NamedTensors> micro_batches) {
  return Run(step, micro_batches, true);
}

StatusOr<StepOutput> Engine::RunForward(int64_t step, std::span<const NamedTensors> micro_batches) {
  return Run(step, micro_batches, false);
}

StatusOr<StepOutput> Engine::Run(int64_t step, std::span<const NamedTensors> micro_batches,
                                 bool training) {
  const auto expected = context_->slots().size() * static_cast<size_t>(options_.micro_batches);
  WEFT_CHECK_EQ(micro_batches.size(), expected) << "micro-batches of a step";
  step_ = step;
  inputs_ = micro_batches;
  step_store_.Clear();
  tapes_.clear();
  join_grads_.clear();
  if (training) reducer_->Begin();

  StepOutput output;
  for (const Phase& phase : model_->objective.phases) {
    switch (phase.kind) {
      case PhaseKind::kForward:
        ForwardWave(FindWave(phase.name), training && options_.keep_wave == GRAPH);
        break;
      case PhaseKind::kJoin:
        WEFT_RETURN_IF_ERROR(RunJoin(phase.name, &output));
        break;
      case PhaseKind::kBackward:
        WEFT_RETURN_IF_ERROR(CheckFinite(output));
        if (training) BackwardWave(FindWave(phase.name));
        break;
    }
  }
  step_store_.Clear();
  tapes_.clear();
  return output;
}

void Engine::ForwardWave(const Wave& wave, bool keep_graph) {
  for (const int slot : context_->slots()) {
    for (int micro_batch = 0; micro_batch < options_.micro_batches; ++micro_batch) {
      const MicroBatchId id{slot, micro_batch};
      Tape* tape = keep_graph ? &tapes_[{wave.name, "", slot, micro_batch}] : nullptr;
      const NamedTensors outputs = ForwardMicroBatch(wave, id, tape);
      for (const auto& [name, value] : outputs)
        step_store_.Put({wave.name, name, slot, micro_batch}, value);
    }
  }
}

NamedTensors Engine::ForwardMicroBatch(const Wave& wave, MicroBatchId id, Tape* tape) {
  const MicroBatchContext context = ContextOf(wave, id, true);
  NamedTensors values = Input(id);
  if (tape != nullptr) tape->resize(static_cast<size_t>(wave.end_block - wave.first_block));
  for (int b = wave.first_block; b < wave.end_block; ++b) {
    Block& block = *model_->blocks[static_cast<size_t>(b)];
    const bool record = tape != nullptr && taped_[static_cast<size_t>(b)];
    std::vector<at::Tensor> inputs;
    for (const ActivationSpec& input : block.spec().inputs) {
      const auto it = values.find(input.name);
      WEFT_CHECK(it != values.end())
          << block.spec().name << " reads " << input.name << ", which nobody made";
      inputs.push_back(it->second.detach());
      if (record && needs_grad_[input.name]) inputs.back().set_requires_grad(true);
    }
    const at::AutoGradMode grad_mode(record);
    std::vector<at::Tensor> outputs = block.Forward(inputs, context);
    WEFT_CHECK_EQ(outputs.size(), block.spec().outputs.size()) << block.spec().name;
    for (size_t i = 0; i < outputs.size(); ++i) values[block.spec().outputs[i].name] = outputs[i];
    if (record)
      (*tape)[static_cast<size_t>(b - wave.first_block)] = {std::move(inputs), std::move(outputs)};
  }
  NamedTensors wanted;
  for (const std::string& name : wave.outputs) wanted[name] = values.at(name);
  return wanted;
}

Status Engine::RunJoin(const std::string& name, StepOutput* output) {
  for (const auto& join : model_->joins) {
    if (join->spec().name != name) continue;
    const at::NoGradGuard no_grad;
    JoinContext context;
    context.parallel = context_;
    context.store = &step_store_;
    context.step = step_;
    context.seed = options_.seed;
    context.micro_batches = options_.micro_batches;
    WEFT_RETURN_IF_ERROR(join->Run(&context));
    for (const LossTerm& term : context.terms) {
      output->loss += term.value;
      output->terms.push_back(term);
    }
    output->metrics.insert(output->metrics.end(), context.metrics.begin(), context.metrics.end());
    join_grads_.insert(join_grads_.end(), context.param_grads.begin(), context.param_grads.end());
    return OkStatus();
  }
  WEFT_CHECK(false) << "the model has no join " << name;
  return OkStatus();
}

void Engine::BackwardWave(const Wave& wave) {
  // With several waves a slot's gradient is complete only after the last one; until such an objective exists, one wave.
  WEFT_CHECK_EQ(backward_waves_, 1) << "backward waves of the objective";
  for (const int slot : context_->slots()) {
    for (const JoinContext::ParamGrad& join_grad : join_grads_) {
      if (join_grad.slot == slot && join_grad.parameter->trainable()) {
        join_grad.parameter->main_grad.add_(join_grad.grad);
      }
    }
    for (int micro_batch = 0; micro_batch < options_.micro_batches; ++micro_batch) {
      const MicroBatchId id{slot, micro_batch};
      Tape& tape = tapes_[{wave.name, "", slot, micro_batch}];
      if (tape.empty()) ForwardMicroBatch(wave, id, &tape);
      BackwardMicroBatch(wave, id, &tape);
      tapes_.erase({wave.name, "", slot, micro_batch});
    }
    reducer_->AddSlot(slot);
  }
}

void Engine::BackwardMicroBatch(const Wave& wave, MicroBatchId id, Tape* tape) {
  NamedTensors grads;
  for (const std::string& name : wave.outputs) {
    const at::Tensor grad = step_store_.Grad({wave.name, name, id.slot, id.micro_batch});
    if (grad.defined()) grads[name] = grad;
  }
  for (int b = wave.end_block - 1; b >= wave.first_block; --b) {
    if (!taped_[static_cast<size_t>(b)]) continue;
    Record& record = (*tape)[static_cast<size_t>(b - wave.first_block)];
    BackwardBlock(*model_->blocks[static_cast<size_t>(b)], &record, &grads);
    record = {};
  }
}

void Engine::BackwardBlock(const Block& block, Record* record, NamedTensors* grads) {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> output_grads;
  for (size_t i = 0; i < record->outputs.size(); ++i) {
    const auto it = grads->find(block.spec().outputs[i].name);
    if (it == grads->end() || !record->outputs[i].requires_grad()) continue;
    outputs.push_back(record->outputs[i]);
    output_grads.push_back(it->second);
    grads->erase(it);
  }
  if (outputs.empty()) return;

  // Leaves of this block: its inputs, the parameters that autograd differentiates, the anchors of the others.
  std::vector<at::Tensor> leaves;
  std::vector<size_t> input_of_leaf;
  for (size_t i = 0; i < record->inputs.size(); ++i) {
    if (!record->inputs[i].requires_grad()) continue;
    leaves.push_back(record->inputs[i]);
    input_of_leaf.push_back(i);
  }
  const size_t first_parameter = leaves.size();
  std::vector<Parameter*> trained;
  for (Parameter* parameter : block.parameters()) {
    if (!parameter->trainable()) continue;
    trained.push_back(parameter);
    leaves.push_back(parameter->direct ? parameter->anchor : parameter->value);
  }
  const std::vector<at::Tensor> result = torch::autograd::grad(
      outputs, leaves, output_grads, /*retain_graph=*/false, /*create_graph=*/false,
      /*allow_unused=*/true);

  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < first_parameter; ++i) {
    if (!result[i].defined()) continue;
    at::Tensor& sum = (*grads)[block.spec().inputs[input_of_leaf[i]].name];
    sum = sum.defined() ? at::add(sum, result[i]) : result[i];
  }
  for (size_t p = 0; p < trained.size(); ++p) {
    const at::Tensor& grad = result[first_parameter + p];
    if (!trained[p]->direct && grad.defined()) trained[p]->main_grad.add_(grad);
  }
}

Status Engine::CheckFinite(const StepOutput& output) const {
  for (const LossTerm& term : output.terms) {
    if (std::isfinite(term.value)) continue;
    return Internal("step " + std::to_string(step_) + ": loss term '" + term.name + "' is " +
                    std::to_string(term.value) + "; lower optimizer.lr or set optimizer.clip_norm");
  }
  return OkStatus();
}

}  // namespace weft
