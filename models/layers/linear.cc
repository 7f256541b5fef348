#include "models/layers/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/layers/cpu_kernels.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The weight as an [in, out] matrix.
at::Tensor InOut(const at::Tensor& weight, WeightLayout layout) {
  return layout == WeightLayout::kOutIn ? weight.flatten(1).t() : weight;
}

// sum += a b, in the precision of a and b, added in that of `sum`.
void AddProduct(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  at::Tensor target = sum;
  if (a.scalar_type() == sum.scalar_type()) {
    target.addmm_(a, b);
  } else {
    target.add_(at::mm(a, b));
  }
}

// sum += the column sums of dy.
void AddColumns(const at::Tensor& sum, const at::Tensor& dy) {
  const at::Tensor rows = dy.contiguous();
  if (sum.is_cpu() && sum.scalar_type() == at::kFloat && rows.scalar_type() == at::kBFloat16) {
    cpu::AddColumnSums(static_cast<const cpu::BFloat16Bits*>(rows.const_data_ptr()), rows.size(0),
                       rows.size(1), sum.data_ptr<float>());
  } else if (sum.is_cpu() && sum.scalar_type() == at::kFloat && rows.scalar_type() == at::kFloat) {
    cpu::AddColumnSums(rows.const_data_ptr<float>(), rows.size(0), rows.size(1),
                       sum.data_ptr<float>());
  } else {
    at::Tensor(sum).add_(at::sum(rows, {0}, /*keepdim=*/false, sum.scalar_type()));
  }
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  // The anchors only make the node part of the graph (parameter.h).
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& /*weight_anchor*/, const at::Tensor& /*bias_anchor*/,
                            Parameter* weight, Parameter* bias, int64_t layout) {
    ctx->saved_data["weight"] = reinterpret_cast<int64_t>(weight);
    ctx->saved_data["bias"] = reinterpret_cast<int64_t>(bias);
    ctx->saved_data["layout"] = layout;
    ctx->save_for_backward({x});
    const at::Tensor matrix = InOut(weight->value, static_cast<WeightLayout>(layout));
    return bias == nullptr ? at::mm(x, matrix) : at::addmm(bias->value, x, matrix);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto* weight = reinterpret_cast<Parameter*>(ctx->saved_data["weight"].toInt());
    auto* bias = reinterpret_cast<Parameter*>(ctx->saved_data["bias"].toInt());
    const auto layout = static_cast<WeightLayout>(ctx->saved_data["layout"].toInt());
    const at::Tensor x = ctx->get_saved_variables()[0];
    const at::Tensor& dy = grads[0];
    if (weight->trainable()) {
      weight->Accumulate([x, dy, layout](const at::Tensor& sum) {
        if (layout == WeightLayout::kOutIn) {
          AddProduct(sum.flatten(1), dy.t(), x);
        } else {
          AddProduct(sum, x.t(), dy);
        }
      });
    }
    if (bias != nullptr && bias->trainable()) {
      bias->Accumulate([dy](const at::Tensor& sum) { AddColumns(sum, dy); });
    }
    at::Tensor dx;
    if (ctx->needs_input_grad(0)) dx = at::mm(dy, InOut(weight->value, layout).t());
    return {dx, {}, {}, {}, {}, {}};
  }
};

}  // namespace

Linear::Linear(Parameter* weight, Parameter* bias, WeightLayout layout)
    : weight_(weight), bias_(bias), layout_(layout) {
  weight_->UseDirectGradient();
  if (bias_ != nullptr) bias_->UseDirectGradient();
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  const at::Tensor& bias_anchor = bias_ == nullptr ? weight_->anchor : bias_->anchor;
  const at::Tensor y = LinearFunction::apply(rows, weight_->anchor, bias_anchor, weight_, bias_,
                                             static_cast<int64_t>(layout_));
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = y.size(-1);
  return y.view(sizes);
}

}  // namespace weft
