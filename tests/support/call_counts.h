// Counts what a program asks of operator new and pthread_mutex_lock, on all threads, by taking their place: for programs that
// have call_counts.cc among their own sources. Under the sanitizers, which have an allocator of their own, nothing is counted.
#pragma once

#include <cstdint>

namespace weft::testing {

struct CallCounts {
  int64_t allocations = 0;
  int64_t locks = 0;
};

// False: the counts stay zero.
bool CanCountCalls();
// From now on, from zero.
void StartCountingCalls();
CallCounts StopCountingCalls();

}  // namespace weft::testing
