// The time of day, for people who read records: nothing is decided by it.
#pragma once

#include <chrono>
#include <cstdint>

namespace weft {

inline int64_t UnixMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace weft
