#include "models/layers/layer_norm.h"

#include <ATen/ops/layer_norm.h>

namespace weft {

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, {x.size(-1)}, weight_->value, bias_->value, eps_);
}

}  // namespace weft
