// One parameter as tensors: its value in the compute type and the sum of its gradients. Owned by the ParameterStore; layers
// hold pointers to it, never the tensors, so that a value can be gathered and released between uses.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "models/spec/param_spec.h"

namespace weft {

struct Parameter {
  ParamSpec spec;
  // A leaf over the store's flat buffer.
  at::Tensor value;
  // Same shape, accumulation type; undefined if the parameter is not trained.
  at::Tensor main_grad;
  // An empty leaf that requires a gradient if the parameter is trained: a Function that adds to main_grad itself takes
  // it as an input, so that its backward runs even where no other input asks for it.
  at::Tensor anchor;
  // The layer's backward adds to main_grad (Linear, Embedding). Otherwise the value is a leaf that requires a gradient,
  // and the engine adds what autograd returns.
  bool direct = false;
  // Place in the store: group, and first element in the group's flat buffers.
  int group = 0;
  int64_t offset = 0;

  bool trainable() const { return spec.trainable; }
  // Called once by the layer that adds to main_grad.
  void UseDirectGradient();
};

}  // namespace weft
