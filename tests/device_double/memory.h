// The double's caching allocator: as LibTorch's on CUDA, a freed block goes to the next one on the same stream of the same
// device at once, and waits for other streams that were recorded on it. And pinned memory of the host.
#pragma once

#include <c10/core/Allocator.h>
#include <cuda_runtime_api.h>

namespace weft::testing {

c10::Allocator* DeviceAllocator();
c10::Allocator* PinnedAllocator();
bool IsPinned(const void* address);
// `data` of DeviceAllocator is used on `stream` too.
void RecordOnStream(const c10::DataPtr& data, cudaStream_t stream);

}  // namespace weft::testing
