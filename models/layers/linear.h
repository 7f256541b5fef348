// y = x W^T + b, whose backward adds the weight's and the bias's gradient to main_grad itself: the tape holds the
// parameter, not its value.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/engine/parameter.h"

namespace weft {

enum class WeightLayout {
  // [out, in...]: PyTorch's Linear; a convolution's weight over whole patches.
  kOutIn,
  // [in, out]: bare projection matrices (CLIP's proj).
  kInOut,
};

class Linear {
 public:
  // `bias` may be null.
  Linear(Parameter* weight, Parameter* bias, WeightLayout layout = WeightLayout::kOutIn);

  // x: [..., in] -> [..., out].
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  Parameter* weight_;
  Parameter* bias_;
  WeightLayout layout_;
};

}  // namespace weft
