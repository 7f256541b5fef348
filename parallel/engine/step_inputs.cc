#include "parallel/engine/step_inputs.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace weft {

StepInputs::StepInputs(const ComputeDevice& device, std::vector<NamedTensors> host)
    : device_(device), host_(std::move(host)) {
  if (device_.is_cpu()) return;
  for (const NamedTensors& micro_batch : host_) StartCopy(micro_batch);
}

void StepInputs::StartCopy(const NamedTensors& micro_batch) {
  const c10::StreamGuard on_copy_stream(*device_.copy_stream());
  const c10::impl::VirtualGuardImpl guard(device_.device().type());
  NamedTensors copies;
  for (const auto& [name, tensor] : micro_batch) {
    const at::Tensor copy = tensor.to(device_.device(), /*non_blocking=*/true);
    guard.recordDataPtrOnStream(copy.storage().data_ptr(), *device_.compute_stream());
    copies[name] = copy;
  }
  c10::Event copied(device_.device().type());
  copied.record(*device_.copy_stream());
  copies_.push_back(std::move(copies));
  copied_.emplace_back(std::move(copied));
}

const NamedTensors& StepInputs::Take(size_t index) {
  if (device_.is_cpu()) return host_[index];
  if (copied_[index].has_value()) {
    copied_[index]->block(*device_.compute_stream());
    copied_[index].reset();
  }
  return copies_[index];
}

}  // namespace weft
