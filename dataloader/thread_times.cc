#include "dataloader/thread_times.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace weft {

ThreadTimes::~ThreadTimes() {
  if (schedstat_ >= 0) ::close(schedstat_);
}

void ThreadTimes::Start() {
  if (schedstat_ < 0) schedstat_ = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  start_ = Read();
}

LoaderTimes ThreadTimes::Stop() const {
  const Now now = Read();
  LoaderTimes times;
  times.decode_s = now.core_s - start_.core_s;
  times.core_wait_s = now.core_wait_s - start_.core_wait_s;
  times.read_s =
      std::max(0.0, ToSeconds(now.wall - start_.wall) - times.decode_s - times.core_wait_s);
  return times;
}

ThreadTimes::Now ThreadTimes::Read() const {
  Now now;
  now.wall = Clock::now();
  timespec core = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &core);
  now.core_s = static_cast<double>(core.tv_sec) + 1e-9 * static_cast<double>(core.tv_nsec);
  char text[96];
  const ssize_t n = schedstat_ >= 0 ? ::pread(schedstat_, text, sizeof text - 1, 0) : 0;
  unsigned long long waited_ns = 0;
  if (n > 0) {
    text[n] = '\0';
    if (std::sscanf(text, "%*u %llu", &waited_ns) == 1)
      now.core_wait_s = 1e-9 * static_cast<double>(waited_ns);
  }
  return now;
}

}  // namespace weft
