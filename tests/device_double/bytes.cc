#include "tests/device_double/bytes.h"

#include <utility>

#include "tests/gpu_double/device_memory.h"
#include "tests/gpu_double/stream.h"

namespace weft::testing {
namespace {

// From the first element to the last.
Access AccessOf(const at::Tensor& tensor, bool writes) {
  size_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.size(d) == 0) return {};
    last += static_cast<size_t>((tensor.size(d) - 1) * tensor.stride(d));
  }
  const size_t element = tensor.element_size();
  const auto* first = static_cast<const char*>(tensor.storage().data()) +
                      static_cast<size_t>(tensor.storage_offset()) * element;
  return {first, (last + 1) * element, writes};
}

}  // namespace

bool IsOnDouble(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == c10::DeviceType::PrivateUse1;
}

at::Tensor Alias(const at::Tensor& tensor) {
  const c10::Storage& storage = tensor.storage();
  void* const bytes = BytesOf(storage.mutable_data());
  c10::Storage host(c10::Storage::use_byte_size_t{}, storage.nbytes(),
                    c10::DataPtr(bytes, c10::Device(c10::DeviceType::CPU)));
  at::Tensor alias = at::detail::make_tensor<c10::TensorImpl>(
      std::move(host), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  alias.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                     tensor.storage_offset());
  return alias;
}

void NoteUse(const std::string& what, const at::Tensor& tensor, bool writes) {
  CheckHostAccess(what, AccessOf(tensor, writes));
}

}  // namespace weft::testing
