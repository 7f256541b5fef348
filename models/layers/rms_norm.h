// RMSNorm over the last dimension (Zhang and Sennrich 2019): x rsqrt(mean(x^2) + eps) in fp32 (fp64), back in x's type, times
// the weight.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/engine/parameter.h"

namespace weft {

class RmsNorm {
 public:
  RmsNorm(Parameter* weight, double eps) : weight_(weight), eps_(eps) {}

  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Parameter* weight_;
  double eps_;
};

}  // namespace weft
