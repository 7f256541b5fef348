// Counts the tensors of a GPU for the MemoryMeter and category of the thread that allocates them, as metered_allocator.h does
// for the host.
//
// Two libraries with the same function, for builds with CUDA and without. Thread rule: once a process.
#pragma once

namespace weft {

// From now on. REQUIRES: LibTorch has begun to use the GPU.
void MeterDeviceAllocations();

}  // namespace weft
