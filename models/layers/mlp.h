// The two projections of a transformer's feed-forward part, split over the tensor-parallel ranks by features.
//
// Errors: throws CommError. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/linear.h"
#include "models/layers/token_rows.h"

namespace weft {

enum class Activation {
  kQuickGelu,
  kGelu,
  // silu(gate x) * (up x).
  kSwiGlu,
};

struct MlpParameters {
  // kSwiGlu: up.
  LinearParameters up;
  // kSwiGlu only.
  LinearParameters gate;
  LinearParameters down;
};

class Mlp {
 public:
  Mlp(const MlpParameters& parameters, Activation activation, const TensorAxis& axis);

  // [samples, tokens, width] or own rows, in the same form.
  at::Tensor operator()(const at::Tensor& x, const TokenRows& rows) const;

 private:
  Activation activation_;
  ColumnLinear up_;
  RowLinear down_;
};

}  // namespace weft
