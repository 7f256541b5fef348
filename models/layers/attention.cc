#include "models/layers/attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>

namespace weft {

at::Tensor Attention::operator()(const at::Tensor& x) const {
  const int64_t b = x.size(0);
  const int64_t s = x.size(1);
  const int64_t width = x.size(2);
  // [b, s, 3, heads, d] -> three times [b, heads, s, d], without a copy.
  const auto qkv =
      in_proj_(x).view({b, s, 3, heads_, width / heads_}).permute({2, 0, 3, 1, 4}).unbind(0);
  const at::Tensor y =
      at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                       /*is_causal=*/causal_);
  return out_proj_(y.transpose(1, 2).reshape({b, s, width}));
}

}  // namespace weft
