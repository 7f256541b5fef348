#include "models/layers/rope.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sub.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// `direction` -1 turns back.
at::Tensor Turn(const at::Tensor& x, double theta, const at::Tensor& segment_at, double direction) {
  const int64_t half = x.size(3) / 2;
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::TensorOptions wide_options = x.options().dtype(at::kDouble);
  const at::Tensor exponents =
      at::arange(half, wide_options).mul_(-2.0 / static_cast<double>(x.size(3)));
  at::Tensor positions = at::arange(x.size(1), wide_options);
  if (segment_at.defined()) positions = at::sub(positions, segment_at.to(at::kDouble));
  // [s, 1, half], or [b, s, 1, half].
  const at::Tensor angles = at::mul(positions.unsqueeze(-1), at::pow(theta, exponents));
  const at::Tensor cos = angles.cos().to(wide).unsqueeze(-2);
  const at::Tensor sin = angles.sin().mul_(direction).to(wide).unsqueeze(-2);
  const at::Tensor first = x.narrow(3, 0, half).to(wide);
  const at::Tensor second = x.narrow(3, half, half).to(wide);
  return at::cat({at::mul(first, cos).sub_(at::mul(second, sin)),
                  at::mul(second, cos).add_(at::mul(first, sin))},
                 3)
      .to(x.scalar_type());
}

struct RotateFunction : torch::autograd::Function<RotateFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, double theta,
                            const std::optional<at::Tensor>& given) {
    const at::Tensor segment_at = given.value_or(at::Tensor());
    ctx->saved_data["theta"] = theta;
    ctx->save_for_backward({segment_at});
    return Turn(x, theta, segment_at, 1);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor segment_at = ctx->get_saved_variables()[0];
    return {Turn(grads[0], ctx->saved_data["theta"].toDouble(), segment_at, -1), {}, {}};
  }
};

}  // namespace

at::Tensor Rotate(const at::Tensor& x, double theta, const at::Tensor& segment_at) {
  return RotateFunction::apply(x, theta, std::optional<at::Tensor>(segment_at));
}

}  // namespace weft
