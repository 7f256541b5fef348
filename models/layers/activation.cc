#include "models/layers/activation.h"

#include <ATen/ops/mul.h>
#include <ATen/ops/sigmoid.h>
#include <torch/csrc/autograd/custom_function.h>

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kSlope = 1.702;

at::Tensor Wide(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

struct QuickGeluFunction : torch::autograd::Function<QuickGeluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x) {
    ctx->save_for_backward({x});
    const at::Tensor wide = Wide(x);
    return at::mul(wide, kSlope).sigmoid_().mul_(wide).to(x.scalar_type());
  }

  // d/dx = g + 1.702 x g (1 - g) with g = sigmoid(1.702 x).
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor x = ctx->get_saved_variables()[0];
    const at::Tensor wide = Wide(x);
    const at::Tensor gate = at::mul(wide, kSlope).sigmoid_();
    at::Tensor slope = at::mul(gate, wide).mul_(gate.neg().add_(1)).mul_(kSlope).add_(gate);
    return {slope.mul_(Wide(grads[0])).to(x.scalar_type())};
  }
};

}  // namespace

at::Tensor QuickGelu(const at::Tensor& x) { return QuickGeluFunction::apply(x); }

}  // namespace weft
