// LayerNorm over the last dimension (Ba et al. 2016): statistics and arithmetic in fp32 (fp64), the result in x's type.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/engine/parameter.h"

namespace weft {

class LayerNorm {
 public:
  LayerNorm(Parameter* weight, Parameter* bias, double eps)
      : weight_(weight), bias_(bias), eps_(eps) {}

  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Parameter* weight_;
  Parameter* bias_;
  double eps_;
};

}  // namespace weft
