#include "parallel/memory/metered_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <cstddef>
#include <new>

#include "parallel/memory/memory_meter.h"

namespace weft {
namespace {

// Keeps the alignment that LibTorch's kernels count on.
constexpr size_t kHeader = 64;
static_assert(sizeof(MemoryTicket) <= kHeader);

class MeteredAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &Free, c10::Device(c10::DeviceType::CPU)};
    auto* block = static_cast<std::byte*>(c10::alloc_cpu(bytes + kHeader));
    new (block) MemoryTicket(CountAllocation(static_cast<int64_t>(bytes)));
    std::byte* const data = block + kHeader;
    return {data, data, &Free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void Free(void* data) {
    if (data == nullptr) return;
    std::byte* const block = static_cast<std::byte*>(data) - kHeader;
    CountFree(*reinterpret_cast<MemoryTicket*>(block));
    c10::free_cpu(block);
  }
};

}  // namespace

void InstallMeteredAllocator() {
  // LibTorch keeps it for the life of the process, as it does its own.
  static MeteredAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/255);
}

}  // namespace weft
