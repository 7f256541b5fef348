// Operations on the double: the CPU's kernels on the bytes of the device.
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/device_double/bytes.h"
#include "tests/device_double/device_double.h"
#include "tests/device_double/guard.h"
#include "tests/device_double/memory.h"

namespace weft::testing {
namespace {

// `alias`: of an argument; a list's is that of its elements.
bool IsWritten(const c10::AliasInfo* alias) {
  if (alias == nullptr) return false;
  if (alias->isWrite()) return true;
  const auto& elements = alias->containedTypes();
  return std::any_of(elements.begin(), elements.end(),
                     [](const c10::AliasInfo& element) { return element.isWrite(); });
}

// One call of an operation: what its tensors became on the host, and the way back.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack) : op_(op), stack_(stack) {}

  void Run() {
    const auto& arguments = op_.schema().arguments();
    const size_t begin = stack_->size() - arguments.size();
    for (size_t i = 0; i < arguments.size(); ++i) {
      (*stack_)[begin + i] = ToHost((*stack_)[begin + i], IsWritten(arguments[i].alias_info()));
    }
    CheckPlaces();
    if (!pairs_.empty()) CurrentStream(pairs_[0].device.device().index()).synchronize();
    for (const Pair& pair : pairs_) NoteUse(op_.schema().name(), pair.device, pair.writes);
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_);
    const size_t results = op_.schema().returns().size();
    for (size_t i = stack_->size() - results; i < stack_->size(); ++i)
      (*stack_)[i] = ToDevice((*stack_)[i]);
  }

 private:
  struct Pair {
    at::Tensor device;
    at::Tensor host;
    bool writes = false;
  };

  at::Tensor HostTensor(const at::Tensor& tensor, bool writes) {
    if (!IsOnDouble(tensor)) {
      if (tensor.defined() && tensor.dim() > 0) of_host_ = true;
      return tensor;
    }
    // What an operation makes big enough is of its own memory first.
    const bool grows = writes && tensor.numel() == 0;
    pairs_.push_back(
        {tensor, grows ? at::empty({0}, tensor.scalar_type()) : Alias(tensor), writes});
    return pairs_.back().host;
  }

  c10::IValue ToHost(const c10::IValue& value, bool writes) {
    if (value.isTensor()) return HostTensor(value.toTensor(), writes);
    if (value.isTensorList()) {
      std::vector<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector())
        list.push_back(HostTensor(tensor, writes));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        list.push_back(tensor.has_value() ? std::optional(HostTensor(*tensor, writes)) : tensor);
      }
      return list;
    }
    if (value.isDevice() && value.toDevice().type() == c10::DeviceType::PrivateUse1) {
      made_on_ = value.toDevice();
      return c10::Device(c10::DeviceType::CPU);
    }
    return value;
  }

  void CheckPlaces() {
    const std::string& name = op_.schema().name();
    for (const Pair& pair : pairs_) {
      TORCH_CHECK(pair.device.device() == pairs_[0].device.device(), name,
                  ": tensors of two devices");
    }
    TORCH_CHECK(pairs_.empty() || !of_host_, name, ": tensors of the host and of a device");
  }

  at::Tensor DeviceTensor(const at::Tensor& host) {
    if (!host.defined() || (pairs_.empty() && !made_on_)) return host;
    for (const Pair& pair : pairs_) {
      if (pair.host.is_same(host)) return Written(pair);
    }
    for (const Pair& pair : pairs_) {
      if (host.numel() > 0 && host.storage().data() == pair.host.storage().data())
        return View(pair.device, host);
    }
    const c10::Device device = made_on_ ? *made_on_ : pairs_[0].device.device();
    at::Tensor made =
        at::empty_strided(host.sizes(), host.strides(), host.options().device(device));
    if (host.numel() > 0) Alias(made).copy_(host);
    return made;
  }

  static at::Tensor Written(const Pair& pair) {
    if (pair.device.sizes() == pair.host.sizes()) return pair.device;
    pair.device.resize_(pair.host.sizes());
    Alias(pair.device).copy_(pair.host);
    return pair.device;
  }

  static at::Tensor View(const at::Tensor& base, const at::Tensor& host) {
    at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(
        c10::TensorImpl::VIEW, c10::Storage(base.storage()), base.key_set(), host.dtype());
    view.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(),
                                                      host.storage_offset());
    return view;
  }

  c10::IValue ToDevice(const c10::IValue& value) {
    if (value.isTensor()) return DeviceTensor(value.toTensor());
    if (!value.isTensorList()) return value;
    std::vector<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(DeviceTensor(tensor));
    return list;
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack* stack_;
  std::vector<Pair> pairs_;
  bool of_host_ = false;
  std::optional<c10::Device> made_on_;
};

void RunOnBytes(const c10::OperatorHandle& op, torch::jit::Stack* stack) { Call(op, stack).Run(); }

at::Tensor Empty(at::IntArrayRef sizes, std::optional<at::ScalarType> type,
                 std::optional<at::Layout> /*layout*/, std::optional<at::Device> device,
                 std::optional<bool> /*pin_memory*/, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.value_or(at::Device(c10::DeviceType::PrivateUse1)));
  return at::detail::empty_generic(sizes, DeviceAllocator(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(type), format);
}

at::Tensor EmptyStrided(at::IntArrayRef sizes, at::IntArrayRef strides,
                        std::optional<at::ScalarType> type, std::optional<at::Layout> /*layout*/,
                        std::optional<at::Device> device, std::optional<bool> /*pin_memory*/) {
  const c10::DeviceGuard guard(device.value_or(at::Device(c10::DeviceType::PrivateUse1)));
  return at::detail::empty_strided_generic(sizes, strides, DeviceAllocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(type));
}

at::Tensor AsStrided(const at::Tensor& self, at::IntArrayRef sizes, at::IntArrayRef strides,
                     std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

const at::Tensor& Resize(const at::Tensor& self, at::IntArrayRef sizes,
                         std::optional<at::MemoryFormat> format) {
  return at::native::resize_(self, sizes, format);
}

at::Tensor& SetStorage(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef sizes,
                       at::IntArrayRef strides) {
  return at::cpu::set_(self, std::move(source), offset, sizes, strides);
}

// By itself while the host goes on, if LibTorch would on CUDA: from or to pinned memory, without a change of type or order.
bool CopiesByItself(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!non_blocking || from.dtype() != to.dtype() || !from.is_contiguous() || !to.is_contiguous() ||
      from.sizes() != to.sizes())
    return false;
  const at::Tensor& host = IsOnDouble(from) ? to : from;
  return IsPinned(host.storage().data());
}

at::Tensor CopyFrom(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const c10::Stream stream = CurrentStream((IsOnDouble(to) ? to : from).device().index());
  const bool between = IsOnDouble(from) != IsOnDouble(to);
  if (between && CopiesByItself(from, to, non_blocking)) {
    cudaMemcpyAsync(const_cast<void*>(to.const_data_ptr()), from.const_data_ptr(), from.nbytes(),
                    cudaMemcpyDefault, StreamOf(stream));
    // LibTorch keeps pinned memory until the copy is done.
    cudaLaunchHostFunc(
        StreamOf(stream), [](void* kept) { delete static_cast<at::Tensor*>(kept); },
        new at::Tensor(IsOnDouble(from) ? to : from));
    return to;
  }
  TORCH_CHECK(between || from.device() == to.device(), "a copy between two devices");
  stream.synchronize();
  if (IsOnDouble(from)) NoteUse("copy", from, false);
  if (IsOnDouble(to)) NoteUse("copy", to, true);
  at::Tensor target = IsOnDouble(to) ? Alias(to) : to;
  target.copy_(IsOnDouble(from) ? Alias(from) : from);
  return to;
}

at::Tensor CopyFromAndResize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return CopyFrom(from, to, false);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&RunOnBytes>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &Empty);
  library.impl("empty_strided", &EmptyStrided);
  library.impl("as_strided", &AsStrided);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &Resize);
  library.impl("set_.source_Storage_storage_offset", &SetStorage);
  library.impl("_copy_from", &CopyFrom);
  library.impl("_copy_from_and_resize", &CopyFromAndResize);
  // LibTorch would take it apart, and add in another order than the CPU's kernel.
  library.impl("native_layer_norm", torch::CppFunction::makeFromBoxedFunction<&RunOnBytes>());
}

}  // namespace

// Defined here, so that who calls it gets this file's registrations.
bool InstallKernels() { return true; }

}  // namespace weft::testing
