// How long a recovery took, phase by phase: from the verdict on a lost generation to the first step of the next one.
//
// Thread rule: a value; no clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/clock.h"

namespace weft {

struct Recovery {
  std::string verdict;
  int64_t from_step = 0;
  double seconds = 0;
  // "reap", "respawn", "start", "first_step", in this order.
  std::vector<std::pair<std::string, double>> phases;
  // "rank 1 (...) was killed by signal 9 (Killed) at step 33; resumed from step 30 in 1.9 s".
  std::string Sentence() const;
};

class RecoveryTimeline {
 public:
  // A generation was lost. While a recovery is under way (a second loss) the first moment stays.
  void OnLost(TimePoint now, const std::string& verdict);
  // A phase ends; nothing if no recovery is under way.
  void OnPhase(TimePoint now, const std::string& phase);
  // Where the new generation starts.
  void OnStart(int64_t from_step) { from_step_ = from_step; }
  // The first step of the new generation is done: the recovery is over.
  std::optional<Recovery> OnStep(TimePoint now);

 private:
  bool active_ = false;
  TimePoint lost_{};
  TimePoint phase_began_{};
  int64_t from_step_ = 0;
  Recovery recovery_;
};

}  // namespace weft
