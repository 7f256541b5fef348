// Walks the order ahead of the consumer, a window of it, and tells the cache which chunks come, when each is done and when it
// is needed again. Time is counted in steps, at the mean pace of the consumer since the start.
//
// Thread rule: Advance is safe from any thread; a thread of its own does the rest.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "dataloader/chunk_cache.h"
#include "dataloader/loader_options.h"
#include "dataloader/order.h"
#include "dataloader/sample_mix.h"

namespace weft {

class CacheReadAhead {
 public:
  // Reads the sets of `mix` through data.cache_dir. nullptr: none is set, its disk does not serve, or no set lies in shards.
  // REQUIRES: nobody reads the sets yet; `mix` and `order` outlive this. Errors: FailedPrecondition (not the cache's folder).
  static StatusOr<std::unique_ptr<CacheReadAhead>> Open(const LoaderOptions& options,
                                                        const SampleMix& mix,
                                                        const SampleOrder& order);
  ~CacheReadAhead();
  CacheReadAhead(const CacheReadAhead&) = delete;
  CacheReadAhead& operator=(const CacheReadAhead&) = delete;

  // The consumer has begun `step`.
  void Advance(int64_t step) { step_.store(step, std::memory_order_relaxed); }
  ChunkCacheFigures figures() const { return cache_->figures(); }

 private:
  // A chunk between the first and the last row of its window.
  struct OpenVisit {
    int set = 0;
    uint64_t id = 0;  // a sample that has parts in it
    int64_t last_step = 0;
    TimePoint told;
  };

  CacheReadAhead(const LoaderOptions& options, const SampleMix& mix, const SampleOrder& order,
                 std::unique_ptr<ChunkCache> cache);
  void Run();
  // All rows of the next step that is to be looked at.
  void WalkStep();
  // The chunk is needed by the sample in the step that is walked.
  void Visit(const ChunkRef& ref, const SampleRef& sample);
  void FinishVisits();
  Duration TimeUntil(int64_t step) const;
  void Report();

  const LoaderOptions options_;
  const SampleMix& mix_;
  const SampleOrder& order_;
  const std::unique_ptr<ChunkCache> cache_;
  // Whose rows this machine's processes read, by slot.
  const std::vector<bool> of_slot_;
  // Steps between two rows of a chunk in its window, at most; steps by which rows may come before or after the order's place
  // for them (data.batcher; data.balance moves too few rows to count); steps that are walked ahead.
  const int64_t gap_;
  const int64_t stray_;
  const int64_t horizon_;
  const TimePoint start_ = Clock::now();

  std::atomic<int64_t> step_;
  // The thread's own.
  int64_t walked_;
  std::unordered_map<ChunkRef, OpenVisit, ChunkRefHash> visits_;
  std::vector<int64_t> parts_;
  TimePoint reported_ = start_;
  bool ending_ = false;

  Mutex mutex_;
  CondVar wake_;
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// "data cache: 97.1 % of 12.3 GB came from it; 24 chunks (90 MB) fetched from shards, 3100 were there, no room for 0".
std::string Describe(const ChunkCacheFigures& figures);

}  // namespace weft
