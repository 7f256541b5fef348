// The memory of a group: flat buffers and the views of them that parameters are. Under ZeRO 3 the buffer of whole values comes
// with a gather and goes with Release; its views stay.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/StorageImpl.h>

#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "parallel/engine/parameter_sizes.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/memory/memory_meter.h"

namespace weft {
namespace {

// A tensor over part of the buffer's storage. It shares memory but no version counter: autograd does not see writes of the
// optimizer and of gathers.
at::Tensor View(const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  at::Tensor view = at::empty({0}, buffer.options());
  return view.set_(buffer.storage(), offset, shape, strides);
}

// Gives the buffer memory for all of its elements, or takes it away; views stay valid.
void ResizeStorage(const at::Tensor& buffer, size_t bytes) {
  c10::StorageImpl* storage = buffer.storage().unsafeGetStorageImpl();
  if (storage->nbytes() == bytes) return;
  storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
  storage->set_nbytes(bytes);
}

}  // namespace

void ParameterStore::Allocate(ParameterGroup* group) {
  const int64_t ranks = context_->shards();
  group->shard_size = RoundUp(UsedSize(*group), kBlock * ranks) / ranks;
  const int64_t size = group->shard_size * ranks;
  const at::ScalarType type = group->kind.value_type;
  const at::TensorOptions master_options = TensorsOf(accumulate_type_);
  const MemoryScope parameters(MemoryCategory::kParameters);
  if (group->kind.gathered) {
    group->values = at::empty({size}, TensorsOf(type));
    group->shard_values = at::zeros({group->shard_size}, TensorsOf(type));
  } else {
    group->values = at::zeros({size}, TensorsOf(type));
    group->shard_values =
        group->values.narrow(0, context_->shard() * group->shard_size, group->shard_size);
  }
  const bool own_master = group->trainable() && type != accumulate_type_ && !group->replica();
  group->master = group->shard_values;
  if (own_master) {
    const MemoryScope optimizer(MemoryCategory::kOptimizer);
    group->master = at::zeros({group->shard_size}, master_options);
  }
  if (group->trainable()) {
    const MemoryScope gradients(MemoryCategory::kGradients);
    group->main_grad = at::zeros({size}, master_options);
  }
  MakeViews(group);
  if (group->kind.gathered) ResizeStorage(group->values, 0);
}

void ParameterStore::MakeViews(ParameterGroup* group) {
  for (Parameter* parameter : group->parameters) {
    const std::vector<int64_t> shape =
        LocalShape(parameter->spec, context_->tp_size(), context_->tp_rank());
    parameter->value = View(group->values, parameter->offset, shape);
    parameter->anchor = at::empty({0}, group->values.options());
    if (!group->trainable()) continue;
    parameter->main_grad = View(group->main_grad, parameter->offset, shape);
    parameter->value.set_requires_grad(true);
    parameter->anchor.set_requires_grad(true);
  }
}

void ParameterStore::LaunchGather(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (!group.kind.gathered || group.gather != nullptr || group.values.storage().nbytes() > 0)
    return;
  const MemoryScope scope(MemoryCategory::kParameters);
  ResizeStorage(group.values, static_cast<size_t>(group.shard_size) * context_->shards() *
                                  group.values.element_size());
  group.gather = context_->AllGatherShards(group.shard_values.data_ptr(), group.values.data_ptr(),
                                           group.shard_values.nbytes(), "parameters.gather");
}

Status ParameterStore::WaitGather(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (group.gather == nullptr) return OkStatus();
  return context_->Wait(std::move(group.gather));
}

void ParameterStore::Release(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (!group.kind.gathered) return;
  WEFT_CHECK(group.gather == nullptr) << "released while it is gathered";
  ResizeStorage(group.values, 0);
}

}  // namespace weft
