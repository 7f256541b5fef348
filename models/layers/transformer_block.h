// The transformer block of every model, with switches for what differs between them: norms before (pre-LN) or after the
// residual sum (post-LN), LayerNorm or RMSNorm, the activation, one or three projections, biases, rotary positions, grouped
// kv heads, masks, dropout and drop path. Under tensor parallelism heads and features are split; with sequence parallelism
// what lies between is split by rows.
//
// Errors: throws CommError. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <variant>
#include <vector>

#include "models/layers/attention_layer.h"
#include "models/layers/layer_norm.h"
#include "models/layers/mlp.h"
#include "models/layers/rms_norm.h"
#include "parallel/engine/block.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

enum class NormKind { kLayerNorm, kRmsNorm };
enum class NormPlace { kBefore, kAfter };

// Parameters under the block's name: NAME.weight and, where the store has it, NAME.bias (or NAME_weight, NAME_bias).
struct TransformerNames {
  std::string norm_1 = "ln_1";
  // Empty: q, k and v apart.
  std::string qkv = "attn.in_proj";
  std::string q;
  std::string k;
  std::string v;
  std::string out = "attn.out_proj";
  std::string norm_2 = "ln_2";
  std::string up = "mlp.c_fc";
  // SwiGLU only.
  std::string gate;
  std::string down = "mlp.c_proj";
};

struct TransformerOptions {
  TransformerNames names;
  int64_t heads = 1;
  // 0: as many as heads.
  int64_t kv_heads = 0;
  bool causal = false;
  // The block's second input is a mask of the keys, [samples, tokens].
  bool key_mask = false;
  // Its zeros end a row, and no loss reads there.
  bool padding_last = false;
  // The block's second input, instead, says where each token's segment of a packed row begins, [samples, tokens].
  bool segments = false;
  NormKind norm = NormKind::kLayerNorm;
  NormPlace norm_place = NormPlace::kBefore;
  double norm_eps = 1e-5;
  Activation activation = Activation::kQuickGelu;
  // 0: no rotary positions.
  double rope_theta = 0;
  // Sites BLOCK.attn (probabilities), BLOCK.hidden1 and BLOCK.hidden2 (what is added), BLOCK.path1 and BLOCK.path2.
  double attention_dropout = 0;
  double hidden_dropout = 0;
  double drop_path = 0;
};

// Pre-LN: x += attn(norm_1(x)); x += mlp(norm_2(x)). Post-LN: x = norm_1(x + attn(x)); x = norm_2(x + mlp(x)).
// The first input's dims are (tokens, width); tokens is the recipe's longest row.
class TransformerBlock : public Block {
 public:
  TransformerBlock(BlockSpec spec, const TransformerOptions& options, const TensorAxis& axis,
                   ParameterStore* store);

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override;

 private:
  using Norm = std::variant<LayerNorm, RmsNorm>;
  static Norm MakeNorm(const TransformerOptions& options, const std::string& name,
                       ParameterStore* store);
  at::Tensor Dropped(const at::Tensor& x, const TokenRows& rows, const MicroBatchContext& context,
                     const char* number) const;

  TransformerOptions options_;
  TensorAxis axis_;
  Norm norm_1_;
  AttentionLayer attention_;
  Norm norm_2_;
  Mlp mlp_;
};

// The tensors of `spec` in `store`, in order: what a Block's constructor wants.
std::vector<Parameter*> ParametersOf(const std::vector<ParamSpec>& specs, ParameterStore* store);
// NAME.weight (or NAME_weight) and, if there is one, the bias; nulls for an empty name.
LinearParameters LinearOf(const std::string& name, ParameterStore* store);

}  // namespace weft
