#include "parallel/memory/cuda_memory.h"

#include <c10/cuda/CUDACachingAllocator.h>

namespace weft {

CudaMemory CudaMemoryOf(int device) {
  const c10::CachingDeviceAllocator::DeviceStats stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
  // Over the small and the large pool together.
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return {.allocated = stats.allocated_bytes[kAll].current,
          .allocated_peak = stats.allocated_bytes[kAll].peak,
          .reserved = stats.reserved_bytes[kAll].current,
          .reserved_peak = stats.reserved_bytes[kAll].peak};
}

void ResetCudaPeaks(int device) {
  c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
}

}  // namespace weft
