// The GPUs that this process sees. A build without CUDA sees none.
//
// Thread rule: any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft {

struct GpuInfo {
  // Hexadecimal; the same in every process, whatever CUDA_VISIBLE_DEVICES says.
  std::string uuid;
  std::string name;
  int64_t memory_bytes = 0;
  // It can work on any memory of the host.
  bool reads_host_memory = false;
};

// In CUDA's order. Empty also if there is no driver.
std::vector<GpuInfo> ListGpus();

}  // namespace weft
