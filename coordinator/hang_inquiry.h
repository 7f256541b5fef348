// Before a hung generation is ended its workers are asked what they did last on the data plane: a verdict says that a rank
// stands still, their flight recorders say in which operation, and who waits for whom. Asked once a verdict; who does not
// answer within a second is not waited for.
//
// Thread rule: a value; no clock.
#pragma once

#include <map>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

class HangInquiry {
 public:
  enum class Next { kAsk, kWait, kDecide };

  // No verdict stands (any more).
  void Reset(int world_size);
  // A verdict stands: what is to be done now.
  Next OnVerdict(TimePoint now);
  void OnDump(int rank, const control::FlightDump& dump);

  // All ranks, their operations oldest first.
  std::string Report() const;
  // "dp.0 #812 all_to_all grads.0 (40.0 MiB), running for 61.0s": the oldest operation of the rank that has not ended, else
  // its last one; "" if it has none or did not answer.
  std::string LastOperation(int rank) const;

 private:
  int world_size_ = 0;
  bool asked_ = false;
  TimePoint asked_at_{};
  std::map<int, control::FlightDump> dumps_;  // by rank
};

}  // namespace weft
