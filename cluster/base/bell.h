// A counter in shared memory that processes wait on (a futex). No wake-up is lost: the waiter reads the counter, looks
// whether there is work, and only then waits for the counter to leave what it read.
//
//   const uint32_t heard = bell.Count();
//   if (!HasWork()) bell.WaitWhile(heard, deadline);
//
// Thread rule: any thread of any process that maps it. All zero is a valid start. A process that dies in any of the calls
// leaves nothing behind.
#pragma once

#include <atomic>
#include <cstdint>

#include "cluster/base/clock.h"

namespace weft {

class Bell {
 public:
  uint32_t Count() const { return count_.load(); }
  // Wakes all that wait.
  void Ring();
  // Until it rings or `deadline`; may return early. Loop.
  void WaitWhile(uint32_t heard, TimePoint deadline) const;

 private:
  std::atomic<uint32_t> count_;
};

}  // namespace weft
