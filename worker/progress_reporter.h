// Tells the control plane that this rank is alive and where it is: a thread of its own, so that a rank that computes for
// minutes, or waits for a peer, is still heard, and a rank that hangs is seen by a counter that stands still.
//
// Thread rule: every method from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "cluster/rpc/worker_channel.h"

namespace weft {

class ProgressReporter {
 public:
  // `channel` outlives the reporter. Starts with PHASE_STARTING.
  ProgressReporter(WorkerChannel* channel, Duration interval);
  ~ProgressReporter();
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  // A new phase or step: sent at once.
  void Enter(control::Phase phase, int64_t step);
  // Something got done (a block, a collective): the counter rises.
  void Tick() { counter_.fetch_add(1, std::memory_order_relaxed); }
  // Names the operation under way when a report is due; nullptr: none. Must stay callable until it is replaced.
  void SetOperationSource(std::function<std::string()> source);

 private:
  void Loop();
  void SendReport() WEFT_REQUIRES(mutex_);

  WorkerChannel* const channel_;
  const Duration interval_;
  std::atomic<uint64_t> counter_{0};
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  control::Phase phase_ WEFT_GUARDED_BY(mutex_) = control::PHASE_STARTING;
  int64_t step_ WEFT_GUARDED_BY(mutex_) = 0;
  std::function<std::string()> operation_ WEFT_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace weft
