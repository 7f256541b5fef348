#include "models/layers/rms_norm.h"

#include <ATen/ops/mul.h>
#include <ATen/ops/rsqrt.h>
#include <torch/csrc/autograd/custom_function.h>

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor Wide(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    const at::Tensor wide = Wide(x);
    const at::Tensor scale = at::rsqrt(wide.square().mean({-1}, /*keepdim=*/true).add_(eps));
    ctx->save_for_backward({x, weight, scale});
    return at::mul(at::mul(wide, scale).to(x.scalar_type()), weight).to(x.scalar_type());
  }

  // With n = x scale: dx = scale (dn - n mean(dn n)).
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight = saved[1];
    const at::Tensor& scale = saved[2];
    const at::Tensor dy = Wide(grads[0]);
    const at::Tensor normal = at::mul(Wide(x), scale);
    at::Tensor d_weight;
    if (ctx->needs_input_grad(1)) {
      d_weight = at::mul(dy, normal).reshape({-1, x.size(-1)}).sum(0).to(weight.scalar_type());
    }
    const at::Tensor dn = at::mul(dy, Wide(weight));
    const at::Tensor shared = at::mul(dn, normal).mean({-1}, /*keepdim=*/true);
    const at::Tensor dx = at::mul(dn - normal * shared, scale).to(x.scalar_type());
    return {dx, d_weight, {}};
  }
};

}  // namespace

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  return RmsNormFunction::apply(x, weight_->value, eps_);
}

}  // namespace weft
