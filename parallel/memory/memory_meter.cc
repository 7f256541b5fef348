#include "parallel/memory/memory_meter.h"

#include <atomic>
#include <cstdio>

#include "cluster/base/text.h"

namespace weft {
namespace {

struct Counter {
  std::atomic<int64_t> live{0};
  std::atomic<int64_t> peak{0};

  void Add(int64_t bytes) {
    const int64_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t most = peak.load(std::memory_order_relaxed);
    while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
    }
  }
  void Subtract(int64_t bytes) { live.fetch_sub(bytes, std::memory_order_relaxed); }
  MemoryReport::Usage Usage() const {
    return {.live = live.load(std::memory_order_relaxed),
            .peak = peak.load(std::memory_order_relaxed)};
  }
};

}  // namespace

// Lives as long as its meter or a block that it counts.
struct alignas(64) MemoryCounters {
  std::array<Counter, kNumMemoryCategories> categories;
  Counter total;
  std::atomic<int64_t> owners{1};  // the meter, and each block

  Counter& Of(MemoryCategory category) { return categories[static_cast<size_t>(category)]; }
  void Release() {
    if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
};

namespace {

struct ThreadMemory {
  MemoryCounters* counters = nullptr;
  MemoryCategory category = MemoryCategory::kOther;
};
constinit thread_local ThreadMemory this_thread;
// Of threads without counters.
constinit std::atomic<MemoryCounters*> other_threads{nullptr};

}  // namespace

const char* MemoryCategoryName(MemoryCategory category) {
  switch (category) {
    case MemoryCategory::kParameters:
      return "parameters";
    case MemoryCategory::kGradients:
      return "gradients";
    case MemoryCategory::kOptimizer:
      return "optimizer";
    case MemoryCategory::kActivations:
      return "activations";
    case MemoryCategory::kBuffers:
      return "buffers";
    case MemoryCategory::kOther:
      return "other";
  }
  return "unknown";
}

std::string MemoryReport::Table() const {
  std::string table;
  const auto add = [&table](const char* name, const Usage& usage) {
    char line[80];
    std::snprintf(line, sizeof(line), "%-12s %12s %12s\n", name,
                  HumanBytes(static_cast<double>(usage.peak)).c_str(),
                  HumanBytes(static_cast<double>(usage.live)).c_str());
    table += line;
  };
  char head[80];
  std::snprintf(head, sizeof(head), "%-12s %12s %12s\n", "memory", "peak", "live");
  table += head;
  for (size_t i = 0; i < kNumMemoryCategories; ++i)
    add(MemoryCategoryName(static_cast<MemoryCategory>(i)), categories[i]);
  add("total", total);
  return table;
}

MemoryMeter::MemoryMeter() : counters_(new MemoryCounters) {}
MemoryMeter::~MemoryMeter() { counters_->Release(); }

MemoryReport MemoryMeter::Report() const {
  MemoryReport report;
  for (size_t i = 0; i < kNumMemoryCategories; ++i)
    report.categories[i] = counters_->categories[i].Usage();
  report.total = counters_->total.Usage();
  return report;
}

void MemoryMeter::ResetPeaks() {
  for (Counter& counter : counters_->categories) counter.peak = counter.live.load();
  counters_->total.peak = counters_->total.live.load();
}

MeterThread::MeterThread(MemoryMeter* meter) : before_(this_thread.counters) {
  this_thread.counters = meter->counters_;
}
MeterThread::~MeterThread() { this_thread.counters = before_; }

MeterOtherThreads::MeterOtherThreads(MemoryMeter* meter)
    : before_(other_threads.exchange(meter->counters_)) {}
MeterOtherThreads::~MeterOtherThreads() { other_threads = before_; }

MemoryScope::MemoryScope(MemoryCategory category) : before_(this_thread.category) {
  this_thread.category = category;
}
MemoryScope::~MemoryScope() { this_thread.category = before_; }

MemoryTicket CountAllocation(int64_t bytes) {
  MemoryCounters* counters = this_thread.counters;
  MemoryCategory category = this_thread.category;
  if (counters == nullptr) {
    counters = other_threads;
    category = MemoryCategory::kActivations;
  }
  if (counters == nullptr) return {};
  counters->owners.fetch_add(1, std::memory_order_relaxed);
  counters->Of(category).Add(bytes);
  counters->total.Add(bytes);
  return {.counters = counters, .bytes = bytes, .category = category};
}

void CountFree(const MemoryTicket& ticket) {
  if (ticket.counters == nullptr) return;
  ticket.counters->Of(ticket.category).Subtract(ticket.bytes);
  ticket.counters->total.Subtract(ticket.bytes);
  ticket.counters->Release();
}

}  // namespace weft
