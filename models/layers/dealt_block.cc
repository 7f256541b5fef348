#include "models/layers/dealt_block.h"

#include <utility>

#include "parallel/tensor/collectives.h"
#include "parallel/tensor/mappings.h"

namespace weft {

bool IsDealt(const BlockSpec& spec) {
  for (const ParamSpec& param : spec.params) {
    if (param.dealt) return true;
  }
  return false;
}

DealtBlock::DealtBlock(std::unique_ptr<Block> inner, const TensorAxis& axis)
    : Block(inner->spec(), inner->parameters()), inner_(std::move(inner)), axis_(axis) {}

std::vector<at::Tensor> DealtBlock::Forward(std::span<const at::Tensor> inputs,
                                            const MicroBatchContext& context) {
  const IndexRange own = OwnRows(context.samples, axis_);
  MicroBatchContext dealt = context;
  dealt.first_row += own.offset;
  dealt.samples = own.length;
  std::vector<at::Tensor> own_inputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ActivationSpec& input = spec().inputs[i];
    if (input.dealt) {
      own_inputs.push_back(inputs[i]);
    } else if (input.differentiable) {
      own_inputs.push_back(SplitRows(inputs[i], axis_, spec().name + "." + input.name));
    } else {
      own_inputs.push_back(inputs[i].narrow(0, own.offset, own.length));
    }
  }
  std::vector<at::Tensor> outputs = inner_->Forward(own_inputs, dealt);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const ActivationSpec& output = spec().outputs[i];
    if (!output.dealt)
      outputs[i] = JoinRows(outputs[i], context.samples, axis_, spec().name + "." + output.name);
  }
  return outputs;
}

}  // namespace weft
