// Where a thread's time goes: on a core, waiting for a core, or asleep.
//
// Thread rule: the thread that made it.
#pragma once

#include "cluster/base/clock.h"
#include "dataloader/loader.h"

namespace weft {

class ThreadTimes {
 public:
  ThreadTimes() = default;
  ~ThreadTimes();
  ThreadTimes(const ThreadTimes&) = delete;
  ThreadTimes& operator=(const ThreadTimes&) = delete;

  void Start();
  // Since Start. A thread that cooks samples sleeps only where a shard's bytes are not in memory.
  LoaderTimes Stop() const;

 private:
  struct Now {
    TimePoint wall;
    double core_s = 0;
    double core_wait_s = 0;
  };
  Now Read() const;

  // The kernel's count of waits for a core; -1 where it keeps none: they then count as reading.
  int schedstat_ = -1;
  Now start_;
};

}  // namespace weft
