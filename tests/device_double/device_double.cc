#include "tests/device_double/device_double.h"

#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/DeviceType.h>

#include "tests/device_double/guard.h"
#include "tests/device_double/memory.h"

namespace weft::testing {

bool InstallKernels();
bool InstallLayerKernels();

namespace {

class Hooks final : public at::PrivateUse1HooksInterface {
 public:
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
  c10::DeviceIndex getCurrentDevice() const override { return CurrentDevice(); }
  bool isPinnedPtr(const void* data) const override { return IsPinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return PinnedAllocator(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    TORCH_CHECK(storage.nbytes() == 0, "the double makes no tensor bigger that has bytes");
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(DeviceAllocator()->allocate(bytes));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

}  // namespace

bool InstallDeviceDouble() {
  static Hooks& hooks = *new Hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  c10::register_privateuse1_backend("gpu_double");
  c10::SetAllocator(c10::DeviceType::PrivateUse1, DeviceAllocator());
  return InstallKernels() && InstallLayerKernels();
}

}  // namespace weft::testing
