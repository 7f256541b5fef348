#include "models/losses/vocab_cross_entropy.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/logical_or.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/nonzero_static.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <string>

#include "parallel/tensor/collectives.h"
#include "parallel/tensor/saved.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits held at a time.
constexpr int64_t kLogitsAtATime = 1 << 22;

struct Plan {
  LinearParameters projection;
  TensorAxis axis;
  CrossEntropyOptions options;

  const ParamSpec& spec() const { return projection.weight->spec; }
  int64_t vocabulary() const { return spec().shape[0]; }
  // This rank's words.
  IndexRange own() const { return TpRange(vocabulary(), spec().tp_units, axis.size, axis.rank); }
  int64_t step() const { return std::max<int64_t>(1, kLogitsAtATime / own().length); }
};

at::ScalarType WideType(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Of rows [begin, begin + n).
at::Tensor Logits(const Plan& plan, const at::Tensor& rows) {
  const at::Tensor matrix = plan.projection.weight->value.t();
  const Parameter* bias = plan.projection.bias;
  const at::Tensor logits =
      bias == nullptr ? at::mm(rows, matrix) : at::addmm(bias->value, rows, matrix);
  return logits.to(WideType(rows));
}

// The column of each label in this rank's words, and where it is another rank's (the column is then 0).
struct Columns {
  at::Tensor index;  // [n, 1]
  at::Tensor elsewhere;
};

Columns OwnColumns(const Plan& plan, const at::Tensor& labels) {
  const IndexRange own = plan.own();
  const at::Tensor elsewhere = at::logical_or(labels.lt(own.offset), labels.ge(own.end()));
  return {at::sub(labels, own.offset).masked_fill_(elsewhere, 0).unsqueeze(1),
          elsewhere.unsqueeze(1)};
}

// Columns of the statistics that are summed over ranks.
enum Stat : int64_t { kSumExp, kLabel, kSum, kNumStats };

// Largest logit [n], and [n, kNumStats] relative to it, of this rank's words.
void LocalStats(const Plan& plan, const at::Tensor& hidden, const at::Tensor& labels,
                const at::Tensor& most, const at::Tensor& stats) {
  for (int64_t begin = 0; begin < hidden.size(0); begin += plan.step()) {
    const int64_t n = std::min(plan.step(), hidden.size(0) - begin);
    const at::Tensor logits = Logits(plan, hidden.narrow(0, begin, n));
    const Columns columns = OwnColumns(plan, labels.narrow(0, begin, n));
    const at::Tensor largest = logits.amax(1, /*keepdim=*/true);
    most.narrow(0, begin, n).copy_(largest.squeeze(1));
    at::Tensor out = stats.narrow(0, begin, n);
    out.select(1, kSumExp).copy_(at::sub(logits, largest).exp_().sum(1));
    out.select(1, kLabel).copy_(
        at::gather(logits, 1, columns.index).masked_fill_(columns.elsewhere, 0).squeeze(1));
    out.select(1, kSum).copy_(logits.sum(1));
  }
}

// g d(loss of the rows) / d logits, in place of the logits.
void LogitGradient(const Plan& plan, const at::Tensor& labels, const at::Tensor& lse,
                   const at::Tensor& g, at::Tensor* logits) {
  const CrossEntropyOptions& options = plan.options;
  logits->sub_(lse.unsqueeze(1)).exp_();
  if (options.z_loss != 0) {
    logits->mul_(lse.mul(2 * options.z_loss).add_(1).unsqueeze(1));
  }
  const double smoothing = options.label_smoothing;
  if (smoothing != 0) logits->sub_(smoothing / static_cast<double>(plan.vocabulary()));
  const Columns columns = OwnColumns(plan, labels);
  const at::Tensor label_part = at::zeros(columns.index.sizes(), logits->options())
                                    .add_(smoothing - 1)
                                    .masked_fill_(columns.elsewhere, 0);
  logits->scatter_add_(1, columns.index, label_part);
  logits->mul_(g);
}

void AddParameterGradients(const Plan& plan, const at::Tensor& rows, const at::Tensor& d_logits) {
  Parameter* weight = plan.projection.weight;
  if (weight->trainable()) {
    weight->Accumulate([rows, d_logits](at::Tensor sum) {
      if (sum.scalar_type() == rows.scalar_type()) {
        sum.addmm_(d_logits.t(), rows);
      } else {
        sum.add_(at::mm(d_logits.t(), rows));
      }
    });
  }
  Parameter* bias = plan.projection.bias;
  if (bias == nullptr || !bias->trainable()) return;
  bias->Accumulate([d_logits](at::Tensor sum) {
    sum.add_(d_logits.sum(at::IntArrayRef{0}, /*keepdim=*/false, sum.scalar_type()));
  });
}

struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
  // The anchors only make the node part of the graph (parameter.h).
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden,
                            const at::TensorList& /*anchors*/, const at::Tensor& labels,
                            const Plan& plan) {
    const at::TensorOptions wide = hidden.options().dtype(WideType(hidden));
    const at::Tensor most = at::empty({hidden.size(0)}, wide);
    const at::Tensor stats = at::empty({hidden.size(0), kNumStats}, wide);
    LocalStats(plan, hidden, labels, most, stats);
    const std::string& name = plan.spec().name;
    const at::Tensor largest = MaxOverTensor(most, plan.axis, name + ".max");
    stats.select(1, kSumExp).mul_(at::sub(most, largest).exp_());
    const at::Tensor sums = SumOverTensor(stats, plan.axis, name + ".sums");
    const at::Tensor lse = sums.select(1, kSumExp).log().add_(largest);
    ctx->saved_data["plan"] = Save(plan);
    ctx->save_for_backward({hidden, labels, lse});

    const double smoothing = plan.options.label_smoothing;
    at::Tensor loss = at::sub(lse, sums.select(1, kLabel), 1 - smoothing);
    if (smoothing != 0)
      loss.sub_(sums.select(1, kSum), smoothing / static_cast<double>(plan.vocabulary()));
    if (plan.options.z_loss != 0) loss.add_(lse.square(), plan.options.z_loss);
    return loss.sum(at::kDouble).to(wide.dtype());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& plan = Saved<Plan>(ctx->saved_data["plan"]);
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& hidden = saved[0];
    const bool wants_rows = ctx->needs_input_grad(0);
    at::Tensor d_hidden = wants_rows ? at::empty(hidden.sizes(), hidden.options()) : at::Tensor();
    for (int64_t begin = 0; begin < hidden.size(0); begin += plan.step()) {
      const int64_t n = std::min(plan.step(), hidden.size(0) - begin);
      const at::Tensor rows = hidden.narrow(0, begin, n);
      at::Tensor logits = Logits(plan, rows);
      LogitGradient(plan, saved[1].narrow(0, begin, n), saved[2].narrow(0, begin, n), grads[0],
                    &logits);
      const at::Tensor d_logits = logits.to(hidden.scalar_type());
      AddParameterGradients(plan, rows, d_logits);
      if (wants_rows)
        d_hidden.narrow(0, begin, n).copy_(at::mm(d_logits, plan.projection.weight->value));
    }
    if (wants_rows) d_hidden = SumOverTensor(d_hidden, plan.axis, plan.spec().name + ".backward");
    return {d_hidden, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor TargetRows(const at::Tensor& labels, int64_t ignore, int64_t count) {
  const at::Tensor chosen = labels.flatten().ne(ignore);
  if (count >= 0 && !labels.is_cpu()) return at::nonzero_static(chosen, count).squeeze(1);
  return at::nonzero(chosen).squeeze(1);
}

VocabCrossEntropy::VocabCrossEntropy(LinearParameters projection, const TensorAxis& axis,
                                     const CrossEntropyOptions& options)
    : projection_(projection), axis_(axis), options_(options) {
  projection_.weight->UseDirectGradient();
  if (projection_.bias != nullptr) projection_.bias->UseDirectGradient();
}

at::Tensor VocabCrossEntropy::operator()(const at::Tensor& hidden, const at::Tensor& labels) const {
  const at::Tensor targets = TargetRows(labels, options_.ignore);
  const bool all = targets.numel() == labels.numel();
  return OfTargets(all ? hidden : at::index_select(hidden, 0, targets),
                   at::index_select(labels.flatten(), 0, targets));
}

at::Tensor VocabCrossEntropy::OfTargets(const at::Tensor& hidden, const at::Tensor& labels) const {
  const Plan plan{projection_, axis_, options_};
  const at::Tensor chosen = labels.to(at::kLong).contiguous();
  TORCH_CHECK_INDEX(
      !chosen.is_cpu() ||
          chosen.lt(0).logical_or(chosen.ge(plan.vocabulary())).sum().item<int64_t>() == 0,
      "a label is outside the ", plan.vocabulary(), " words of the vocabulary");
  const at::Tensor& bias_anchor =
      projection_.bias == nullptr ? projection_.weight->anchor : projection_.bias->anchor;
  const std::vector<at::Tensor> anchors = {projection_.weight->anchor, bias_anchor};
  return CrossEntropyFunction::apply(hidden, at::TensorList(anchors), chosen, plan);
}

}  // namespace weft
