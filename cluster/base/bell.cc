#include "cluster/base/bell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace weft {
namespace {

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free,
              "the kernel compares four bytes");

}  // namespace

// Not FUTEX_PRIVATE: the waiters are other processes.
void Bell::Ring() {
  count_.fetch_add(1);
  ::syscall(SYS_futex, &count_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Bell::WaitWhile(uint32_t heard, TimePoint deadline) const {
  const Duration left = deadline - Clock::now();
  if (left <= Duration::zero()) return;
  timespec timeout = {};
  timeout.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
  timeout.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
  ::syscall(SYS_futex, &count_, FUTEX_WAIT, heard, &timeout, nullptr, 0);
}

}  // namespace weft
