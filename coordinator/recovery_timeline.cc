#include "coordinator/recovery_timeline.h"

#include "cluster/base/text.h"

namespace weft {

std::string Recovery::Sentence() const {
  const std::string from =
      from_step > 0 ? "resumed from step " + std::to_string(from_step) : "started again from init";
  return verdict + "; " + from + " in " + HumanSeconds(seconds);
}

void RecoveryTimeline::OnLost(TimePoint now, const std::string& verdict) {
  if (!active_) {
    active_ = true;
    lost_ = now;
    recovery_ = {};
    recovery_.verdict = verdict;
  } else {
    recovery_.verdict += "; then " + verdict;
  }
  phase_began_ = now;
}

void RecoveryTimeline::OnPhase(TimePoint now, const std::string& phase) {
  if (!active_) return;
  recovery_.phases.emplace_back(phase, ToSeconds(now - phase_began_));
  phase_began_ = now;
}

std::optional<Recovery> RecoveryTimeline::OnStep(TimePoint now) {
  if (!active_) return std::nullopt;
  OnPhase(now, "first_step");
  active_ = false;
  recovery_.from_step = from_step_;
  recovery_.seconds = ToSeconds(now - lost_);
  return recovery_;
}

}  // namespace weft
