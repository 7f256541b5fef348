#include "models/layers/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <string>
#include <utility>

#include "models/layers/cpu_kernels.h"
#include "parallel/tensor/collectives.h"
#include "parallel/tensor/saved.h"

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

bool SplitsRows(const LinearPlan& plan) {
  return plan.split != LinearSplit::kNone && plan.axis.sequence && plan.axis.size > 1;
}

bool TrainsWeights(const LinearPlan& plan) {
  return std::any_of(plan.layers.begin(), plan.layers.end(),
                     [](const LinearParameters& layer) { return layer.weight->trainable(); });
}

std::string OpName(const LinearPlan& plan, const char* direction) {
  return plan.layers[0].weight->spec.name + direction;
}

// x of all rows times the weight.
at::Tensor Project(const at::Tensor& x, const LinearParameters& layer, WeightLayout layout) {
  const at::Tensor matrix = InOut(layer.weight->value, layout);
  return layer.bias == nullptr ? at::mm(x, matrix) : at::addmm(layer.bias->value, x, matrix);
}

// The bias comes after the sum: in a sum it would count once a rank.
at::Tensor ProjectAndSum(const at::Tensor& x, const LinearPlan& plan) {
  const LinearParameters& layer = plan.layers[0];
  if (plan.axis.size == 1) return Project(x, layer, plan.layout);
  const at::Tensor part = at::mm(x, InOut(layer.weight->value, plan.layout));
  const std::string name = OpName(plan, ".forward");
  at::Tensor y =
      SplitsRows(plan) ? OwnRowsOfSum(part, plan.axis, name) : SumOverTensor(part, plan.axis, name);
  if (layer.bias != nullptr) y.add_(layer.bias->value);
  return y;
}

void AddWeightGradient(const LinearPlan& plan, Parameter* weight, const at::Tensor& x,
                       const at::Tensor& dy) {
  weight->Accumulate([x, dy, layout = plan.layout](const at::Tensor& sum) {
    if (layout == WeightLayout::kOutIn) {
      AddProduct(sum.flatten(1), dy.t(), x);
    } else {
      AddProduct(sum, x.t(), dy);
    }
  });
}

void AddBiasGradient(Parameter* bias, const at::Tensor& dy) {
  if (bias == nullptr || !bias->trainable()) return;
  bias->Accumulate([dy](const at::Tensor& sum) { AddColumns(sum, dy); });
}

// The gradient of the layers' common input, this rank's part of the sum.
at::Tensor InputGradient(const LinearPlan& plan, const variable_list& dy) {
  at::Tensor dx;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const at::Tensor matrix = InOut(plan.layers[i].weight->value, plan.layout).t();
    dx = dx.defined() ? dx.addmm_(dy[i], matrix) : at::mm(dy[i], matrix);
  }
  return dx;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  // The anchors only make the node part of the graph (parameter.h).
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const at::TensorList& /*anchors*/, const LinearPlan& plan) {
    ctx->saved_data["plan"] = Save(plan);
    ctx->save_for_backward({TrainsWeights(plan) ? x : at::Tensor()});
    if (plan.split == LinearSplit::kRow) return {ProjectAndSum(x, plan)};
    const at::Tensor all =
        SplitsRows(plan) ? AllRowsOfOwn(x, plan.rows, plan.axis, OpName(plan, ".forward")) : x;
    variable_list outputs;
    for (const LinearParameters& layer : plan.layers)
      outputs.push_back(Project(all, layer, plan.layout));
    return outputs;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto& plan = Saved<LinearPlan>(ctx->saved_data["plan"]);
    at::Tensor x = ctx->get_saved_variables()[0];
    variable_list dy = grads;
    for (size_t i = 0; i < dy.size(); ++i) AddBiasGradient(plan.layers[i].bias, dy[i]);
    if (SplitsRows(plan)) GatherForBackward(plan, &x, &dy);
    for (size_t i = 0; i < dy.size(); ++i) {
      Parameter* weight = plan.layers[i].weight;
      if (weight->trainable()) AddWeightGradient(plan, weight, x, dy[i]);
    }
    variable_list result(plan.layers.size() * 2 + 2);
    if (!ctx->needs_input_grad(0)) return result;
    result[0] = InputGradient(plan, dy);
    if (plan.split != LinearSplit::kColumn) return result;
    const std::string name = OpName(plan, ".backward");
    result[0] = SplitsRows(plan) ? OwnRowsOfSum(result[0], plan.axis, name)
                                 : SumOverTensor(result[0], plan.axis, name);
    return result;
  }

  // Under sequence parallelism: all rows of what this rank kept its own rows of.
  static void GatherForBackward(const LinearPlan& plan, at::Tensor* x, variable_list* dy) {
    if (plan.split == LinearSplit::kRow) {
      (*dy)[0] = AllRowsOfOwn((*dy)[0], plan.rows, plan.axis, OpName(plan, ".backward"));
      return;
    }
    if (TrainsWeights(plan)) *x = AllRowsOfOwn(*x, plan.rows, plan.axis, OpName(plan, ".again"));
  }
};

// `x` as rows; results get its other dimensions back unless rows are split.
std::vector<at::Tensor> Run(const LinearPlan& plan, const at::Tensor& x) {
  std::vector<at::Tensor> anchors;
  for (const LinearParameters& layer : plan.layers) {
    anchors.push_back(layer.weight->anchor);
    anchors.push_back(layer.bias == nullptr ? layer.weight->anchor : layer.bias->anchor);
  }
  std::vector<at::Tensor> outputs =
      LinearFunction::apply(x.reshape({-1, x.size(-1)}), at::TensorList(anchors), plan);
  if (x.dim() == 2) return outputs;
  std::vector<int64_t> sizes = x.sizes().vec();
  for (at::Tensor& y : outputs) {
    sizes.back() = y.size(-1);
    y = y.view(sizes);
  }
  return outputs;
}

LinearPlan MakePlan(std::vector<LinearParameters> layers, LinearSplit split,
                    const TensorAxis& axis) {
  for (const LinearParameters& layer : layers) {
    layer.weight->UseDirectGradient();
    if (layer.bias != nullptr) layer.bias->UseDirectGradient();
  }
  LinearPlan plan;
  plan.layers = std::move(layers);
  plan.split = split;
  plan.axis = axis;
  return plan;
}

}  // namespace

Linear::Linear(Parameter* weight, Parameter* bias, WeightLayout layout)
    : plan_(MakePlan({{weight, bias}}, LinearSplit::kNone, {})) {
  plan_.layout = layout;
}

at::Tensor Linear::operator()(const at::Tensor& x) const { return Run(plan_, x)[0]; }

ColumnLinear::ColumnLinear(std::vector<LinearParameters> layers, const TensorAxis& axis)
    : plan_(MakePlan(std::move(layers), LinearSplit::kColumn, axis)) {}

std::vector<at::Tensor> ColumnLinear::operator()(const at::Tensor& x, int64_t rows) const {
  LinearPlan plan = plan_;
  plan.rows = rows;
  return Run(plan, x);
}

RowLinear::RowLinear(LinearParameters layer, const TensorAxis& axis)
    : plan_(MakePlan({layer}, LinearSplit::kRow, axis)) {}

at::Tensor RowLinear::operator()(const at::Tensor& x) const {
  LinearPlan plan = plan_;
  plan.rows = x.numel() / x.size(-1);
  return Run(plan, x)[0];
}

}  // namespace weft
