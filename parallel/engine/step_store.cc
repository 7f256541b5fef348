#include "parallel/engine/step_store.h"

#include <ATen/ops/add.h>

#include "cluster/base/logging.h"

namespace weft {

void StepStore::Put(const StoreKey& key, const at::Tensor& value) {
  cells_[key].value = value.detach();
}

const at::Tensor& StepStore::Get(const StoreKey& key) const {
  const auto it = cells_.find(key);
  WEFT_CHECK(it != cells_.end()) << key.wave << "/" << key.name << " of slot " << key.slot
                                 << ", micro-batch " << key.micro_batch
                                 << " is not in the step store";
  return it->second.value;
}

void StepStore::AddGrad(const StoreKey& key, const at::Tensor& grad) {
  at::Tensor& sum = cells_[key].grad;
  sum = sum.defined() ? at::add(sum, grad) : grad;
}

at::Tensor StepStore::Grad(const StoreKey& key) const {
  const auto it = cells_.find(key);
  return it == cells_.end() ? at::Tensor() : it->second.grad;
}

}  // namespace weft
