#include "models/layers/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <torch/csrc/autograd/custom_function.h>

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// `direction` -1 turns back.
at::Tensor Turn(const at::Tensor& x, double theta, double direction) {
  const int64_t half = x.size(3) / 2;
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::TensorOptions wide_options = x.options().dtype(at::kDouble);
  const at::Tensor exponents =
      at::arange(half, wide_options).mul_(-2.0 / static_cast<double>(x.size(3)));
  const at::Tensor angles =
      at::outer(at::arange(x.size(1), wide_options), at::pow(theta, exponents));
  const at::Tensor cos = angles.cos().to(wide).view({x.size(1), 1, half});
  const at::Tensor sin = angles.sin().mul_(direction).to(wide).view({x.size(1), 1, half});
  const at::Tensor first = x.narrow(3, 0, half).to(wide);
  const at::Tensor second = x.narrow(3, half, half).to(wide);
  return at::cat({at::mul(first, cos).sub_(at::mul(second, sin)),
                  at::mul(second, cos).add_(at::mul(first, sin))},
                 3)
      .to(x.scalar_type());
}

struct RotateFunction : torch::autograd::Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, double theta) {
    ctx->saved_data["theta"] = theta;
    return Turn(x, theta, 1);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {Turn(grads[0], ctx->saved_data["theta"].toDouble(), -1), {}};
  }
};

}  // namespace

at::Tensor Rotate(const at::Tensor& x, double theta) { return RotateFunction::apply(x, theta); }

}  // namespace weft
