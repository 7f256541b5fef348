// Multi-head self-attention with one fused projection whose rows are q | k | v (Vaswani et al. 2017; the layout of
// PyTorch's MultiheadAttention).
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/linear.h"

namespace weft {

// Between the projections: q, k and v of every head [b, s, 3, heads, d] -> [b, s, heads, d], scaled by 1/sqrt(d).
// causal: a token sees itself and those before it.
at::Tensor AttendHeads(const at::Tensor& qkv, bool causal);

class Attention {
 public:
  Attention(Linear in_proj, Linear out_proj, int64_t heads, bool causal)
      : in_proj_(in_proj), out_proj_(out_proj), heads_(heads), causal_(causal) {}

  // [b, s, width] -> [b, s, width].
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Linear in_proj_;
  Linear out_proj_;
  int64_t heads_;
  bool causal_;
};

}  // namespace weft
