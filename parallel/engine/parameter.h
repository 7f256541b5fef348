// One parameter as tensors: its value in the compute type and the sum of its gradients. Owned by the ParameterStore; layers
// hold pointers to it, never the tensors, so that a value can be gathered and released between uses.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "models/spec/param_spec.h"
#include "models/spec/tp_slice.h"

namespace weft {

// Weight gradients that wait until the schedule asks for them (zero-bubble schedules), in the order of the backward.
using DeferredGradients = std::vector<std::function<void()>>;

struct Parameter {
  ParamSpec spec;
  // Stage that it belongs to, and its number in the whole model.
  int stage = 0;
  int index = 0;
  // Pipeline rank with the other half of a tied pair; -1: not tied.
  int tie_rank = -1;
  // What this rank holds of it: the local tensor is these boxes, one after the other along spec.tp_dim.
  std::vector<TensorBox> boxes;
  // The local tensor: a leaf over the group's flat buffer.
  at::Tensor value;
  // Same shape, accumulation type; undefined if the parameter is not trained.
  at::Tensor main_grad;
  // An empty leaf that requires a gradient if the parameter is trained: a Function that adds to main_grad itself takes
  // it as an input, so that its backward runs even where no other input asks for it.
  at::Tensor anchor;
  // The layer's backward adds to main_grad (Linear, Embedding). Otherwise the value is a leaf that requires a gradient,
  // and the engine adds what autograd returns.
  bool direct = false;
  // Where gradients wait; null: they are added at once. Set by the engine around a backward.
  DeferredGradients* deferred = nullptr;
  // Place in the store: group, and first element in the group's flat buffers.
  int group = 0;
  int64_t offset = 0;

  bool trainable() const { return spec.trainable; }
  // Called once by the layer that adds to main_grad.
  void UseDirectGradient();
  // `add` adds a micro-batch's gradient to the tensor that it is given, now or when the schedule asks. What it captures must
  // not change until then. REQUIRES: trainable().
  template <typename Add>
  void Accumulate(Add add) {
    if (deferred == nullptr) {
      add(main_grad);
    } else {
      deferred->push_back([this, add = std::move(add)] { add(main_grad); });
    }
  }
};

}  // namespace weft
