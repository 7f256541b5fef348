// y = x W^T + b, replicated, column-parallel and row-parallel (Shoeybi et al. 2019), whose backward adds the weight's and
// the bias's gradient to main_grad itself: the tape holds the parameter and the layer's input, not the value. Under
// sequence parallelism a column-parallel layer keeps a rank's own rows and gathers the others' again for the weight
// gradient (Korthikanti et al. 2022).
//
// Collectives are named by the (first) weight. Errors: throws CommError. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "parallel/engine/parameter.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

enum class WeightLayout {
  // [out, in...]: PyTorch's Linear; a convolution's weight over whole patches.
  kOutIn,
  // [in, out]: bare projection matrices (CLIP's proj).
  kInOut,
};

struct LinearParameters {
  Parameter* weight = nullptr;
  // May be null.
  Parameter* bias = nullptr;
};

// How a layer's weights lie over the axis.
enum class LinearSplit { kNone, kColumn, kRow };

// What a call of one of the layers below needs, for forward and backward.
struct LinearPlan {
  std::vector<LinearParameters> layers;
  WeightLayout layout = WeightLayout::kOutIn;
  LinearSplit split = LinearSplit::kNone;
  TensorAxis axis;
  // Of all ranks together.
  int64_t rows = 0;
};

// The same on every rank.
class Linear {
 public:
  // `bias` may be null.
  Linear(Parameter* weight, Parameter* bias, WeightLayout layout = WeightLayout::kOutIn);

  // x: [..., in] -> [..., out].
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  LinearPlan plan_;
};

// Layers of the same input whose outputs are split over ranks (q, k and v; gate and up): one collective a direction.
class ColumnLinear {
 public:
  ColumnLinear(std::vector<LinearParameters> layers, const TensorAxis& axis);

  // x: [..., in] replicated -> [..., out / tp] of each layer. With sequence parallelism x is this rank's own rows
  // [own, in] of `rows`, the results are of all: [rows, out / tp].
  std::vector<at::Tensor> operator()(const at::Tensor& x, int64_t rows) const;

 private:
  LinearPlan plan_;
};

// Inputs are split over ranks, outputs are summed; the bias is added once, after the sum.
class RowLinear {
 public:
  RowLinear(LinearParameters layer, const TensorAxis& axis);

  // x: [..., in / tp] -> [..., out] replicated; with sequence parallelism [rows, in / tp] -> own rows [own, out].
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  LinearPlan plan_;
};

}  // namespace weft
