// The double's devices: eight.
#include <cuda_runtime_api.h>

#include <cstdio>

#include "tests/gpu_double/device_memory.h"

namespace {

constexpr int kDevices = 8;
// CUDA has a current device a thread, too.
thread_local int current_device = 0;

}  // namespace

extern "C" {

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    default:
      return "an error of the double";
  }
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= kDevices) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "double of a GPU");
  properties->uuid.bytes[15] = static_cast<char>(device);
  properties->totalGlobalMem = size_t{1} << 30;
  properties->pageableMemoryAccess = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = weft::testing::AllocateDeviceMemory(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  weft::testing::FreeDeviceMemory(memory);
  return cudaSuccess;
}

}  // extern "C"
