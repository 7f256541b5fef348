#include "models/layers/embedding.h"

#include <ATen/ops/index_select.h>
#include <torch/csrc/autograd/custom_function.h>

#include "cluster/base/logging.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <typename T>
void AddRows(const at::Tensor& table, const at::Tensor& ids, const at::Tensor& rows) {
  const int64_t width = table.size(1);
  T* out = table.data_ptr<T>();
  const T* in = rows.const_data_ptr<T>();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    T* row = out + id[i] * width;
    const T* add = in + i * width;
    for (int64_t k = 0; k < width; ++k) row[k] += add[k];
  }
}

void AddAllRows(const at::Tensor& sum, const at::Tensor& ids, const at::Tensor& dy) {
  WEFT_CHECK(sum.is_cpu()) << "embedding gradients are added on the CPU only";
  const at::Tensor rows = dy.to(sum.scalar_type()).contiguous();
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
    ctx->save_for_backward({ids});
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

}  // namespace

at::Tensor Embedding::operator()(const at::Tensor& ids) const {
  const at::Tensor flat = ids.reshape({-1}).to(at::kLong).contiguous();
  const at::Tensor rows = EmbeddingFunction::apply(flat, table_->anchor, table_);
  std::vector<int64_t> sizes = ids.sizes().vec();
  sizes.push_back(rows.size(1));
  return rows.view(sizes);
}

}  // namespace weft
