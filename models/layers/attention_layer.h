// Multi-head attention with its projections: heads are split over the tensor-parallel ranks, the output is summed (Shoeybi
// et al. 2019). Self-attention, or cross-attention from one run of tokens to another.
//
// Errors: throws CommError. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "models/layers/attention.h"
#include "models/layers/linear.h"
#include "models/layers/token_rows.h"
#include "parallel/engine/block.h"

namespace weft {

struct AttentionParameters {
  // One projection whose rows are q | k | v, each split by heads (PyTorch's MultiheadAttention); null: three.
  LinearParameters qkv;
  LinearParameters q;
  LinearParameters k;
  LinearParameters v;
  LinearParameters out;
};

struct AttentionOptions {
  // Of the dropout: "BLOCK.attn".
  std::string site;
  // Over all ranks. kv_heads below heads: grouped-query; below the ranks: each lies on several of them.
  int64_t heads = 1;
  int64_t kv_heads = 1;
  bool causal = false;
  // AttendOptions.
  bool padding_last = false;
  // Rotary position embedding of q and k; 0: none.
  double rope_theta = 0;
  double dropout = 0;
  // The recipe's longest row of tokens.
  int64_t most_tokens = 0;
};

// What one call attends to.
struct AttentionInput {
  at::Tensor x;
  TokenRows rows;
  // Undefined, or [samples, keys]: zeros where nobody looks.
  at::Tensor key_mask;
  // Undefined, or [samples, tokens] of packed rows: where a token's segment begins. It sees no other and has its position
  // there.
  at::Tensor segment_at;
};

class AttentionLayer {
 public:
  AttentionLayer(const AttentionParameters& parameters, const AttentionOptions& options,
                 const TensorAxis& axis);

  // The rows of `input.x`, [samples, tokens, width] or own rows, in the same form. REQUIRES: both self.
  at::Tensor operator()(const AttentionInput& input, const MicroBatchContext& context) const;
  // Queries from `input`, keys and values from `memory`, whose mask it is. REQUIRES: q, k and v apart.
  at::Tensor Cross(const AttentionInput& input, const AttentionInput& memory,
                   const MicroBatchContext& context) const;

 private:
  AttendOptions OptionsOf(const AttentionInput& input, const MicroBatchContext& context) const;
  // Rows [.., width / tp] -> [samples, tokens, heads of this rank, d].
  at::Tensor SplitHeads(const at::Tensor& x, const TokenRows& rows, int64_t heads) const;
  at::Tensor Output(const at::Tensor& heads, const AttentionInput& input) const;
  at::Tensor AttendFused(const at::Tensor& qkv, const AttentionInput& input,
                         const MicroBatchContext& context) const;

  AttentionOptions options_;
  TensorAxis axis_;
  // Of this rank.
  int64_t heads_ = 0;
  int64_t kv_heads_ = 0;
  bool fused_ = false;
  // q, k and v in one call; or q alone, and k with v, for cross-attention.
  ColumnLinear qkv_;
  std::optional<ColumnLinear> q_;
  std::optional<ColumnLinear> kv_;
  RowLinear out_;
};

}  // namespace weft
