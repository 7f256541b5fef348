// What the double's kernels see of a device's tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace weft::testing {

bool IsOnDouble(const at::Tensor& tensor);
// A tensor of the host over the bytes of a tensor of the device, without waiting for anything.
at::Tensor Alias(const at::Tensor& tensor);
// `what` is about to read or write the tensor, after all that the current stream has: notes a breach if another stream's work
// may still use it. REQUIRES: the current stream has been waited for.
void NoteUse(const std::string& what, const at::Tensor& tensor, bool writes);

}  // namespace weft::testing
