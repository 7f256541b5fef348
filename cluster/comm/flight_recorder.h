// The last operations of a process, for the verdict on a hang or a crash: what was called, what had
// started, what was done, and when. A ring: old entries make room for new ones. (The idea is
// PyTorch's FlightRecorder.)
//
// Thread rule: any thread may call anything.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"

namespace weft {

class FlightRecorder {
 public:
  enum class State { kEnqueued, kStarted, kDone, kFailed };

  struct Entry {
    uint64_t id = 0;
    // "all_to_all grads.exchange", "send act.3 to rank 5"
    std::string operation;
    // The group that it is among: "dp.0"; "" if there is one only.
    std::string axis;
    // Of the Work.
    uint64_t sequence = 0;
    uint64_t bytes = 0;
    State state = State::kEnqueued;
    TimePoint enqueued;
    TimePoint started;
    TimePoint ended;
  };

  // REQUIRES: capacity >= 1.
  explicit FlightRecorder(size_t capacity = 256);

  // Notes a new operation; the id is for the calls below, which do nothing once the entry has been
  // overwritten.
  uint64_t Enqueued(std::string operation, uint64_t sequence, uint64_t bytes,
                    std::string axis = "");
  void Started(uint64_t id);
  void Ended(uint64_t id, bool ok);

  // Operations that have ended since the start: a progress counter.
  uint64_t ended_count() const;
  // Oldest first.
  std::vector<Entry> Entries() const;
  // One line an operation, oldest first: "dp.0 #812 all_to_all grads.exchange 40.0 MiB started,
  // running for 3.2s".
  std::string Snapshot() const;

 private:
  Entry* Find(uint64_t id) WEFT_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::vector<Entry> ring_ WEFT_GUARDED_BY(mutex_);
  uint64_t next_id_ WEFT_GUARDED_BY(mutex_) = 1;
  uint64_t ended_count_ WEFT_GUARDED_BY(mutex_) = 0;
};

}  // namespace weft
