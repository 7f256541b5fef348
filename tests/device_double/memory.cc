#include "tests/device_double/memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <bit>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "parallel/memory/memory_meter.h"
#include "tests/device_double/guard.h"

namespace weft::testing {
namespace {

struct Block {
  void* address = nullptr;
  size_t size = 0;
  int device = 0;
  cudaStream_t stream = nullptr;
  std::set<cudaStream_t> others;
  // Of the streams in `others`, once it is freed.
  std::vector<cudaEvent_t> events;
  MemoryTicket ticket;
};

using Place = std::tuple<int, cudaStream_t, size_t>;

struct Cache {
  Mutex mutex;
  std::map<Place, std::vector<Block*>> free WEFT_GUARDED_BY(mutex);
  std::set<std::pair<const void*, size_t>> pinned WEFT_GUARDED_BY(mutex);
};
Cache& TheCache() {
  static Cache& cache = *new Cache;
  return cache;
}

bool Over(Block* block) {
  while (!block->events.empty()) {
    if (cudaEventQuery(block->events.back()) != cudaSuccess) return false;
    cudaEventDestroy(block->events.back());
    block->events.pop_back();
  }
  return true;
}

Block* Take(size_t size, int device, cudaStream_t stream) {
  Cache& cache = TheCache();
  const MutexLock lock(cache.mutex);
  std::vector<Block*>& free = cache.free[{device, stream, size}];
  for (auto block = free.rbegin(); block != free.rend(); ++block) {
    if (!Over(*block)) continue;
    Block* const found = *block;
    free.erase(std::next(block).base());
    return found;
  }
  auto* made = new Block{.size = size, .device = device, .stream = stream};
  TORCH_CHECK_WITH(OutOfMemoryError, cudaMalloc(&made->address, size) == cudaSuccess,
                   "the double's device ", device, " has no ", size, " bytes");
  return made;
}

void Free(void* context) {
  auto* block = static_cast<Block*>(context);
  CountFree(block->ticket);
  for (const cudaStream_t stream : std::exchange(block->others, {})) {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(block->device);
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaEventRecord(event, stream);
    cudaSetDevice(before);
    block->events.push_back(event);
  }
  Cache& cache = TheCache();
  const MutexLock lock(cache.mutex);
  cache.free[{block->device, block->stream, block->size}].push_back(block);
}

class DeviceMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::DeviceIndex device = CurrentDevice();
    const c10::Device where(c10::DeviceType::PrivateUse1, device);
    if (bytes == 0) return {nullptr, where};
    Block* const block =
        Take(std::bit_ceil(std::max<size_t>(bytes, 256)), device, StreamOf(CurrentStream(device)));
    block->ticket = CountAllocation(static_cast<int64_t>(bytes));
    return {block->address, block, &Free, where};
  }
  void copy_data(void* /*to*/, const void* /*from*/, size_t /*bytes*/) const override {
    TORCH_CHECK(false, "the host copies memory of the device");
  }
};

void FreePinned(void* data) {
  Cache& cache = TheCache();
  {
    const MutexLock lock(cache.mutex);
    const auto block = cache.pinned.lower_bound({data, 0});
    if (block != cache.pinned.end() && block->first == data) cache.pinned.erase(block);
  }
  c10::free_cpu(data);
}

class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device host(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, host};
    void* const data = c10::alloc_cpu(bytes);
    const MutexLock lock(TheCache().mutex);
    TheCache().pinned.emplace(data, bytes);
    return {data, data, &FreePinned, host};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

c10::Allocator* DeviceAllocator() {
  static DeviceMemory& memory = *new DeviceMemory;
  return &memory;
}

c10::Allocator* PinnedAllocator() {
  static PinnedMemory& memory = *new PinnedMemory;
  return &memory;
}

bool IsPinned(const void* address) {
  Cache& cache = TheCache();
  const MutexLock lock(cache.mutex);
  auto block = cache.pinned.upper_bound({address, SIZE_MAX});
  if (block == cache.pinned.begin()) return false;
  --block;
  return address < static_cast<const char*>(block->first) + block->second;
}

void RecordOnStream(const c10::DataPtr& data, cudaStream_t stream) {
  if (data.get() == nullptr) return;
  WEFT_CHECK(data.get_deleter() == &Free) << "no memory of the double's device";
  auto* block = static_cast<Block*>(data.get_context());
  if (stream != block->stream) block->others.insert(stream);
}

}  // namespace weft::testing
