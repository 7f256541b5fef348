#include "parallel/device/compute_device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "cluster/base/logging.h"

namespace weft {

using c10::impl::VirtualGuardImpl;

int ComputeDevice::Count() {
  const std::optional<c10::DeviceType> type = at::getAccelerator();
  return type.has_value() && c10::impl::hasDeviceGuardImpl(*type)
             ? VirtualGuardImpl(*type).deviceCount()
             : 0;
}

StatusOr<ComputeDevice> ComputeDevice::Open(int ordinal) {
  const int count = Count();
  if (ordinal < 0 || ordinal >= count) {
    return FailedPrecondition("device " + std::to_string(ordinal) + " of " + std::to_string(count) +
                              " is not there: set layout.device to CPU, or run a build with CUDA "
                              "where every rank has a device");
  }
  ComputeDevice opened;
  opened.device_ = at::Device(*at::getAccelerator(), static_cast<c10::DeviceIndex>(ordinal));
  at::globalContext().lazyInitDevice(opened.device_.type());
  const VirtualGuardImpl guard(opened.device_.type());
  guard.setDevice(opened.device_);
  opened.compute_ = guard.getStreamFromGlobalPool(opened.device_, /*isHighPriority=*/false);
  opened.copy_ = guard.getStreamFromGlobalPool(opened.device_, /*isHighPriority=*/true);
  opened.Enter();
  return opened;
}

void* ComputeDevice::stream() const { return is_cpu() ? nullptr : compute_->native_handle(); }

void ComputeDevice::Enter() const {
  if (is_cpu()) return;
  const VirtualGuardImpl guard(device_.type());
  guard.setDevice(device_);
  guard.exchangeStream(*compute_);
}

void ComputeDevice::Synchronize() const {
  if (!is_cpu()) compute_->synchronize();
}

at::Tensor ComputeDevice::ToHost(const at::Tensor& tensor) const { return tensor.to(at::kCPU); }
at::Tensor ComputeDevice::ToDevice(const at::Tensor& tensor) const { return tensor.to(device_); }

at::Tensor ComputeDevice::HostBuffer(at::IntArrayRef sizes, at::ScalarType type) const {
  return at::empty(sizes, at::TensorOptions(type).pinned_memory(!is_cpu()));
}

}  // namespace weft
