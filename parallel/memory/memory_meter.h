// How much tensor memory a rank holds, and held at most, by what it is for. The allocator (metered_allocator.h) counts each block
// for the meter and the category of the thread that allocates it:
//
//   MemoryMeter meter;                                     // one a rank
//   MeterThread attached(&meter);                          // in each thread that works for the rank
//   { MemoryScope scope(MemoryCategory::kActivations);     // in the engine, the store, the optimizer
//     ... }
//   LOG << meter.Report().Table();
//
// A block stays in its category until it is freed, by whichever thread. Threads without a meter are not counted. Bytes are
// those asked for.
//
// Thread rule: a meter from any thread; scopes belong to the thread that opens them and end in reverse order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace weft {

enum class MemoryCategory : uint8_t {
  kParameters,
  kGradients,
  kOptimizer,
  kActivations,
  kBuffers,  // of communication and of the loader
  kOther,    // no scope is open
};
constexpr size_t kNumMemoryCategories = 6;
// "parameters", ...
const char* MemoryCategoryName(MemoryCategory category);

struct MemoryReport {
  struct Usage {
    int64_t live = 0;
    int64_t peak = 0;
  };
  std::array<Usage, kNumMemoryCategories> categories;
  // Of all categories together: less than the sum of their peaks, which come at different times.
  Usage total;

  const Usage& Of(MemoryCategory category) const {
    return categories[static_cast<size_t>(category)];
  }
  // A line a category and the total: name, peak, live.
  std::string Table() const;
};

struct MemoryCounters;

class MemoryMeter {
 public:
  MemoryMeter();
  // Blocks that are still counted may outlive it.
  ~MemoryMeter();
  MemoryMeter(const MemoryMeter&) = delete;
  MemoryMeter& operator=(const MemoryMeter&) = delete;

  MemoryReport Report() const;
  // The peaks begin anew at what is live: before the first step, say.
  void ResetPeaks();

 private:
  friend class MeterThread;
  friend class MeterOtherThreads;
  MemoryCounters* const counters_;  // freed with the last block
};

// What this thread allocates counts for `meter`, until the end of the scope.
class MeterThread {
 public:
  explicit MeterThread(MemoryMeter* meter);
  ~MeterThread();
  MeterThread(const MeterThread&) = delete;
  MeterThread& operator=(const MeterThread&) = delete;

 private:
  MemoryCounters* const before_;
};

// What threads without a meter of their own allocate counts for `meter`, as activations, until the end of the scope: with a
// device the backward passes run on threads of LibTorch's. For processes with one rank.
class MeterOtherThreads {
 public:
  explicit MeterOtherThreads(MemoryMeter* meter);
  ~MeterOtherThreads();
  MeterOtherThreads(const MeterOtherThreads&) = delete;
  MeterOtherThreads& operator=(const MeterOtherThreads&) = delete;

 private:
  MemoryCounters* const before_;
};

// What this thread allocates is of `category`, until the end of the scope. Scopes nest.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryCategory category);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  const MemoryCategory before_;
};

// For allocators. What is needed at the block's end.
struct MemoryTicket {
  MemoryCounters* counters = nullptr;  // null: not counted
  int64_t bytes = 0;
  MemoryCategory category = MemoryCategory::kOther;
};
MemoryTicket CountAllocation(int64_t bytes);
void CountFree(const MemoryTicket& ticket);

}  // namespace weft
