#include "models/layers/embedding.h"

#include <ATen/ops/index_select.h>
#include <ATen/ops/logical_or.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sub.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cluster/base/logging.h"
#include "models/layers/device_kernels.h"
#include "parallel/tensor/collectives.h"
#include "parallel/tensor/saved.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Ids below zero have no row.
template <typename T>
void AddRows(const at::Tensor& table, const at::Tensor& ids, const at::Tensor& rows) {
  const int64_t width = table.size(1);
  T* out = table.data_ptr<T>();
  const T* in = rows.const_data_ptr<T>();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    if (id[i] < 0) continue;
    T* row = out + id[i] * width;
    const T* add = in + i * width;
    for (int64_t k = 0; k < width; ++k) row[k] += add[k];
  }
}

void AddAllRows(const at::Tensor& sum, const at::Tensor& ids, const at::Tensor& dy) {
  const at::Tensor rows = dy.to(sum.scalar_type()).contiguous();
  if (!sum.is_cpu()) {
    // Sorted by id, the rows of one id lie together and still in their order: one thread adds them, as on the CPU.
    const auto [sorted, order] = at::sort(ids, /*stable=*/true, /*dim=*/0, /*descending=*/false);
    if (ids.numel() > 0) device::AddRows(sum, sorted, order, rows);
    return;
  }
  if (sum.scalar_type() == at::kDouble) {
    AddRows<double>(sum, ids, rows);
  } else {
    AddRows<float>(sum, ids, rows);
  }
}

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& ids,
                            const at::Tensor& /*anchor*/, Parameter* table) {
    ctx->saved_data["table"] = reinterpret_cast<int64_t>(table);
    const int64_t padding = table->spec.padding_row;
    ctx->save_for_backward({padding < 0 ? ids : ids.masked_fill(ids.eq(padding), -1)});
    return at::index_select(table->value, 0, ids);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto* table = reinterpret_cast<Parameter*>(ctx->saved_data["table"].toInt());
    const at::Tensor ids = ctx->get_saved_variables()[0];
    if (table->trainable()) {
      table->Accumulate([ids, dy = grads[0]](const at::Tensor& sum) { AddAllRows(sum, ids, dy); });
    }
    return {{}, {}, {}};
  }
};

struct VocabPlan {
  Parameter* table = nullptr;
  TensorAxis axis;
};

struct VocabFunction : torch::autograd::Function<VocabFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& ids,
                            const at::Tensor& /*anchor*/, const VocabPlan& plan) {
    const ParamSpec& spec = plan.table->spec;
    const IndexRange own = TpRange(spec.shape[0], spec.tp_units, plan.axis.size, plan.axis.rank);
    const at::Tensor elsewhere = at::logical_or(ids.lt(own.offset), ids.ge(own.end()));
    const at::Tensor local = at::sub(ids, own.offset);
    const at::Tensor rows = at::index_select(plan.table->value, 0, local.masked_fill(elsewhere, 0))
                                .masked_fill_(elsewhere.unsqueeze(1), 0);
    ctx->saved_data["plan"] = Save(plan);
    ctx->save_for_backward(
        {local.masked_fill_(at::logical_or(elsewhere, ids.eq(spec.padding_row)), -1)});
    return SumOverTensor(rows, plan.axis, spec.name + ".forward");
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    Parameter* table = Saved<VocabPlan>(ctx->saved_data["plan"]).table;
    const at::Tensor ids = ctx->get_saved_variables()[0];
    if (table->trainable()) {
      table->Accumulate([ids, dy = grads[0]](const at::Tensor& sum) { AddAllRows(sum, ids, dy); });
    }
    return {{}, {}, {}};
  }
};

at::Tensor FlatIds(const at::Tensor& ids) { return ids.reshape({-1}).to(at::kLong).contiguous(); }

at::Tensor LikeIds(const at::Tensor& rows, const at::Tensor& ids) {
  std::vector<int64_t> sizes = ids.sizes().vec();
  sizes.push_back(rows.size(1));
  return rows.view(sizes);
}

}  // namespace

at::Tensor Embedding::operator()(const at::Tensor& ids) const {
  return LikeIds(EmbeddingFunction::apply(FlatIds(ids), table_->anchor, table_), ids);
}

VocabEmbedding::VocabEmbedding(Parameter* table, const TensorAxis& axis)
    : table_(table), axis_(axis) {
  table_->UseDirectGradient();
}

at::Tensor VocabEmbedding::operator()(const at::Tensor& ids) const {
  const VocabPlan plan{table_, axis_};
  return LikeIds(VocabFunction::apply(FlatIds(ids), table_->anchor, plan), ids);
}

}  // namespace weft
