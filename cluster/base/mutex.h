// A mutex that clang's -Wthread-safety understands (libstdc++'s carries no annotations). Members say GUARDED_BY(mutex_),
// private methods that need the lock say REQUIRES(mutex_).
#pragma once

#include <condition_variable>
#include <mutex>

#include "cluster/base/clock.h"

#if defined(__clang__)
#define WEFT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define WEFT_THREAD_ANNOTATION(x)
#endif
#define WEFT_GUARDED_BY(x) WEFT_THREAD_ANNOTATION(guarded_by(x))
#define WEFT_REQUIRES(...) WEFT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))

namespace weft {

class WEFT_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void Lock() WEFT_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void Unlock() WEFT_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class WEFT_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) WEFT_THREAD_ANNOTATION(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() WEFT_THREAD_ANNOTATION(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // Waits until notified or until `deadline`; returns false at the deadline. Spurious wake-ups happen: loop.
  bool WaitUntil(Mutex& mutex, TimePoint deadline) WEFT_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = cv_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace weft
