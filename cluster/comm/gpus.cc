#include "cluster/comm/gpus.h"

#include <cuda_runtime_api.h>

namespace weft {
namespace {

std::string Hex(const cudaUUID_t& uuid) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : uuid.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += kDigits[byte / 16];
    text += kDigits[byte % 16];
  }
  return text;
}

}  // namespace

std::vector<GpuInfo> ListGpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<GpuInfo> gpus;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return {};
    GpuInfo gpu;
    gpu.uuid = Hex(properties.uuid);
    gpu.name = properties.name;
    gpu.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
    gpu.reads_host_memory = properties.pageableMemoryAccess != 0;
    gpus.push_back(gpu);
  }
  return gpus;
}

}  // namespace weft
