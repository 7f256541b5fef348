#include "parallel/engine/block_tape.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

std::vector<at::Tensor> Run(Block* block, const std::vector<at::Tensor>& inputs,
                            const MicroBatchContext& context, bool record) {
  const at::AutoGradMode grad_mode(record);
  std::vector<at::Tensor> outputs =
      block->Forward(inputs, context.OfEntries(block->spec().per_sample));
  WEFT_CHECK_EQ(outputs.size(), block->spec().outputs.size()) << block->spec().name;
  return outputs;
}

// The layers add their gradients to `deferred` for as long as it lives.
class DeferScope {
 public:
  DeferScope(const std::vector<Parameter*>& parameters, DeferredGradients* deferred)
      : parameters_(parameters) {
    for (Parameter* parameter : parameters_) parameter->deferred = deferred;
  }
  ~DeferScope() {
    for (Parameter* parameter : parameters_) parameter->deferred = nullptr;
  }
  DeferScope(const DeferScope&) = delete;
  DeferScope& operator=(const DeferScope&) = delete;

 private:
  const std::vector<Parameter*>& parameters_;
};

// Leaves of a block: its inputs, the parameters that autograd differentiates, the anchors of the others.
struct Leaves {
  std::vector<at::Tensor> tensors;
  std::vector<size_t> inputs;          // of the first tensors
  std::vector<Parameter*> parameters;  // of the others
};

Leaves LeavesOf(const Block& block, const Record& record) {
  Leaves leaves;
  for (size_t i = 0; i < record.inputs.size(); ++i) {
    if (!record.inputs[i].requires_grad()) continue;
    leaves.tensors.push_back(record.inputs[i]);
    leaves.inputs.push_back(i);
  }
  for (Parameter* parameter : block.parameters()) {
    if (!parameter->trainable()) continue;
    leaves.parameters.push_back(parameter);
    leaves.tensors.push_back(parameter->direct ? parameter->anchor : parameter->value);
  }
  return leaves;
}

}  // namespace

Record ForwardBlock(Block* block, const MicroBatchContext& context, Keep keep,
                    const std::map<std::string, bool>& needs_grad, NamedTensors* values) {
  Record record;
  for (const ActivationSpec& input : block->spec().inputs) {
    const auto it = values->find(input.name);
    WEFT_CHECK(it != values->end())
        << block->spec().name << " reads " << input.name << ", which nobody made";
    record.inputs.push_back(AsEntries(it->second, input).detach());
    const auto needs = needs_grad.find(input.name);
    if (keep != Keep::kNothing && needs != needs_grad.end() && needs->second)
      record.inputs.back().set_requires_grad(true);
  }
  record.outputs = Run(block, record.inputs, context, keep == Keep::kGraph);
  for (size_t i = 0; i < record.outputs.size(); ++i)
    (*values)[block->spec().outputs[i].name] = record.outputs[i].detach();
  if (keep != Keep::kGraph) record.outputs.clear();
  if (keep == Keep::kNothing) record.inputs.clear();
  return record;
}

void BackwardBlock(Block* block, const MicroBatchContext& context, Record record,
                   DeferredGradients* deferred, NamedTensors* grads) {
  const std::vector<ActivationSpec>& specs = block->spec().outputs;
  bool any = false;
  for (const ActivationSpec& output : specs) any = any || grads->count(output.name) > 0;
  if (!any) return;
  if (record.outputs.empty()) record.outputs = Run(block, record.inputs, context, true);
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> output_grads;
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto it = grads->find(specs[i].name);
    if (it == grads->end()) continue;
    if (record.outputs[i].requires_grad()) {
      outputs.push_back(record.outputs[i]);
      output_grads.push_back(it->second);
    }
    grads->erase(it);
  }
  if (outputs.empty()) return;
  const Leaves leaves = LeavesOf(*block, record);
  std::vector<at::Tensor> result;
  {
    const DeferScope scope(block->parameters(), deferred);
    result = torch::autograd::grad(outputs, leaves.tensors, output_grads, /*retain_graph=*/false,
                                   /*create_graph=*/false, /*allow_unused=*/true);
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < leaves.inputs.size(); ++i) {
    if (!result[i].defined()) continue;
    at::Tensor& sum = (*grads)[block->spec().inputs[leaves.inputs[i]].name];
    sum = sum.defined() ? at::add(sum, result[i]) : result[i];
  }
  const DeferScope scope(block->parameters(), deferred);
  for (size_t p = 0; p < leaves.parameters.size(); ++p) {
    const at::Tensor& grad = result[leaves.inputs.size() + p];
    if (leaves.parameters[p]->direct || !grad.defined()) continue;
    leaves.parameters[p]->Accumulate([grad](const at::Tensor& sum) { sum.add_(grad); });
  }
}

}  // namespace weft
