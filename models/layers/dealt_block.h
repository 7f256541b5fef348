// A block of an encoder that is not split over tp: each tensor-parallel rank runs it on its own images of the
// micro-batch (as even as they go; perhaps none). Inputs that are whole on every rank are dealt, and outputs that the spec
// wants whole are gathered (ActivationSpec::dealt). The gradients of its parameters are of a rank's own images.
//
// Errors: throws CommError. Thread rule: one thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "parallel/engine/block.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

// Whether the spec is of a dealt encoder.
bool IsDealt(const BlockSpec& spec);

class DealtBlock : public Block {
 public:
  // `inner` was made for one rank.
  DealtBlock(std::unique_ptr<Block> inner, const TensorAxis& axis);

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override;

 private:
  std::unique_ptr<Block> inner_;
  TensorAxis axis_;
};

}  // namespace weft
