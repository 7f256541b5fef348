// Tensor memory on a GPU: LibTorch's caching allocator counts it already. By device, not by category.
//
// Its own library, weft_cuda_memory, only with WEFT_CUDA. Thread rule: any thread.
#pragma once

#include <cstdint>

namespace weft {

struct CudaMemory {
  // Bytes of tensors, and what the allocator holds for them.
  int64_t allocated = 0;
  int64_t allocated_peak = 0;
  int64_t reserved = 0;
  int64_t reserved_peak = 0;
};

// REQUIRES: LibTorch has used the device.
CudaMemory CudaMemoryOf(int device);
// The peaks begin anew at what is live.
void ResetCudaPeaks(int device);

}  // namespace weft
