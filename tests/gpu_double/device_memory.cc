#include "tests/gpu_double/device_memory.h"

#include <sys/mman.h>

#include <bit>
#include <cstdint>
#include <map>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"

namespace weft::testing {
namespace {

constexpr size_t kSpace = size_t{32} << 30;  // of addresses: pages that nobody touches cost nothing
constexpr size_t kLeast = 256;               // and the alignment, as cudaMalloc's

char* Reserve(int protection) {
  void* const memory =
      mmap(nullptr, kSpace, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEFT_CHECK(memory != MAP_FAILED) << "no address space for the double's devices";
  return static_cast<char*>(memory);
}

// Of the process, as a GPU's memory is.
struct Space {
  char* const addresses = Reserve(PROT_NONE);
  char* const bytes = Reserve(PROT_READ | PROT_WRITE);
  Mutex mutex;
  size_t used WEFT_GUARDED_BY(mutex) = 0;
  // By size, a power of two; and the size of each block by its offset.
  std::map<size_t, std::vector<size_t>> free WEFT_GUARDED_BY(mutex);
  std::map<size_t, size_t> sizes WEFT_GUARDED_BY(mutex);
};

Space& TheSpace() {
  static Space& space = *new Space;
  return space;
}

}  // namespace

void* AllocateDeviceMemory(size_t bytes) {
  Space& space = TheSpace();
  const size_t size = std::bit_ceil(bytes < kLeast ? kLeast : bytes);
  const MutexLock lock(space.mutex);
  std::vector<size_t>& free = space.free[size];
  if (!free.empty()) {
    const size_t offset = free.back();
    free.pop_back();
    return space.addresses + offset;
  }
  if (size > kSpace - space.used) return nullptr;
  const size_t offset = space.used;
  space.used += size;
  space.sizes[offset] = size;
  return space.addresses + offset;
}

void FreeDeviceMemory(void* address) {
  if (address == nullptr) return;
  Space& space = TheSpace();
  const auto offset = static_cast<size_t>(static_cast<char*>(address) - space.addresses);
  const MutexLock lock(space.mutex);
  const auto block = space.sizes.find(offset);
  WEFT_CHECK(block != space.sizes.end()) << "freed what is no block of a device";
  space.free[block->second].push_back(offset);
}

bool IsDeviceMemory(const void* address) {
  const Space& space = TheSpace();
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto begin = reinterpret_cast<uintptr_t>(space.addresses);
  return at >= begin && at - begin < kSpace;
}

void* BytesOf(void* address) {
  const Space& space = TheSpace();
  return IsDeviceMemory(address) ? space.bytes + (static_cast<char*>(address) - space.addresses)
                                 : address;
}

const void* BytesOf(const void* address) { return BytesOf(const_cast<void*>(address)); }

}  // namespace weft::testing
