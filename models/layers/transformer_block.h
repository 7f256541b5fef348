// The transformer block of every model, with switches for what differs between them: now pre-LN with QuickGELU, causal or
// not, as in CLIP.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "models/layers/attention.h"
#include "models/layers/layer_norm.h"
#include "models/layers/linear.h"
#include "parallel/engine/block.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

struct TransformerOptions {
  int64_t heads = 1;
  bool causal = false;
  double norm_eps = 1e-5;
};

// x += attn(ln_1(x)); x += c_proj(gelu(c_fc(ln_2(x)))). Parameters by OpenAI's names under the block's name.
class TransformerBlock : public Block {
 public:
  TransformerBlock(BlockSpec spec, const TransformerOptions& options, ParameterStore* store);

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override;

 private:
  LayerNorm ln_1_;
  Attention attention_;
  LayerNorm ln_2_;
  Linear c_fc_;
  Linear c_proj_;
};

// The tensors of `spec` in `store`, in order: what a Block's constructor wants.
std::vector<Parameter*> ParametersOf(const std::vector<ParamSpec>& specs, ParameterStore* store);

}  // namespace weft
