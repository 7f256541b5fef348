#include <c10/cuda/CUDACachingAllocator.h>

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "cluster/base/mutex.h"
#include "parallel/memory/device_meter.h"
#include "parallel/memory/memory_meter.h"

namespace weft {
namespace {

struct Tickets {
  Mutex mutex;
  std::unordered_map<size_t, MemoryTicket> by_address WEFT_GUARDED_BY(mutex);
};

}  // namespace

// The allocator calls the tracker in the thread that allocates or frees.
void MeterDeviceAllocations() {
  using c10::cuda::CUDACachingAllocator::TraceEntry;
  const auto tickets = std::make_shared<Tickets>();
  c10::cuda::CUDACachingAllocator::attachAllocatorTraceTracker([tickets](const TraceEntry& entry) {
    const MutexLock lock(tickets->mutex);
    if (entry.action_ == TraceEntry::ALLOC) {
      tickets->by_address[entry.addr_] = CountAllocation(static_cast<int64_t>(entry.size_));
    } else if (entry.action_ == TraceEntry::FREE_REQUESTED) {
      const auto found = tickets->by_address.find(entry.addr_);
      if (found == tickets->by_address.end()) return;
      CountFree(found->second);
      tickets->by_address.erase(found);
    }
  });
}

}  // namespace weft
