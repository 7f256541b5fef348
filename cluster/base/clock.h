// Time as a value: decisions take `now` as an argument; only the outermost loops ask a clock.
#pragma once

#include <chrono>

namespace weft {

// CLOCK_MONOTONIC. Never compared between hosts.
using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = std::chrono::nanoseconds;

inline double ToSeconds(Duration d) { return std::chrono::duration<double>(d).count(); }
inline Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

}  // namespace weft
