// One block on one micro-batch: forward with what its backward will need, and that backward. Autograd lives in here only.
//
// Errors: exceptions of LibTorch and CommError of the layers' collectives pass through. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "parallel/engine/block.h"

namespace weft {

// What a block that ran keeps until its backward. Without outputs it runs forward again first.
struct Record {
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
};

enum class Keep {
  kNothing,  // no backward will come
  kInputs,   // the backward runs the forward again: equal bits
  kGraph,
};

// Runs the block on `values`, adds its outputs to them, and keeps what `keep` says. `needs_grad`: by input name.
Record ForwardBlock(Block* block, const MicroBatchContext& context, Keep keep,
                    const std::map<std::string, bool>& needs_grad, NamedTensors* values);

// Takes the gradients of the block's outputs out of `grads` and adds those of its inputs. Gradients of parameters go to
// Parameter::Accumulate; `deferred` not null: there, to be added later. Does nothing if no output has a gradient.
void BackwardBlock(Block* block, const MicroBatchContext& context, Record record,
                   DeferredGradients* deferred, NamedTensors* grads);

}  // namespace weft
