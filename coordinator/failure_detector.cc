#include "coordinator/failure_detector.h"

#include <algorithm>
#include <cmath>

#include "cluster/base/text.h"

namespace weft {
namespace {

Duration Percentile99(std::vector<Duration> times) {
  if (times.empty()) return Duration::zero();
  const auto index = static_cast<size_t>(std::ceil(0.99 * static_cast<double>(times.size()))) - 1;
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(index), times.end());
  return times[index];
}

}  // namespace

const char* WorkerPhaseName(WorkerPhase phase) {
  switch (phase) {
    case WorkerPhase::kStarting:
      return "starting";
    case WorkerPhase::kLoading:
      return "loading";
    case WorkerPhase::kTraining:
      return "training";
    case WorkerPhase::kSaving:
      return "saving";
    case WorkerPhase::kEvaluating:
      return "evaluating";
    case WorkerPhase::kDone:
      return "done";
  }
  return "unknown";
}

void FailureDetector::Reset(TimePoint now, int world_size) {
  ranks_.assign(static_cast<size_t>(world_size), Rank{});
  for (Rank& rank : ranks_) rank.changed = rank.heard = rank.step_began = now;
}

void FailureDetector::OnProgress(TimePoint now, int rank, const ProgressReport& report) {
  if (rank < 0 || rank >= static_cast<int>(ranks_.size())) return;
  Rank& r = ranks_[static_cast<size_t>(rank)];
  r.heard = now;
  const bool stepped = report.step != r.last.step;
  const bool in_training =
      report.phase == WorkerPhase::kTraining && r.last.phase == WorkerPhase::kTraining;
  if (stepped && in_training) {
    // A report may cover several short steps.
    const int64_t steps = std::max<int64_t>(1, report.step - r.last.step);
    const Duration seconds = (now - r.step_began) / steps;
    if (r.step_times.size() < static_cast<size_t>(options_.history)) {
      r.step_times.push_back(seconds);
    } else {
      r.step_times[static_cast<size_t>(r.steps_done % options_.history)] = seconds;
    }
    r.steps_done += static_cast<int>(std::min<int64_t>(steps, options_.num_first_steps));
  }
  if (stepped || !in_training) r.step_began = now;
  if (stepped || report.phase != r.last.phase || report.counter != r.last.counter) r.changed = now;
  r.last = report;
}

void FailureDetector::OnLeft(int rank) {
  if (rank >= 0 && rank < static_cast<int>(ranks_.size()))
    ranks_[static_cast<size_t>(rank)].left = true;
}

Duration FailureDetector::Limit(int rank) const {
  const Rank& r = ranks_[static_cast<size_t>(rank)];
  switch (r.last.phase) {
    case WorkerPhase::kStarting:
      return options_.starting;
    case WorkerPhase::kLoading:
      return options_.loading;
    case WorkerPhase::kSaving:
      return options_.saving;
    case WorkerPhase::kEvaluating:
      return options_.evaluating;
    case WorkerPhase::kDone:
      return Duration::max();
    case WorkerPhase::kTraining:
      break;
  }
  if (r.steps_done < options_.num_first_steps)
    return std::max(options_.first_steps, options_.floor);
  const double learned = options_.factor * ToSeconds(Percentile99(r.step_times));
  return std::max(options_.floor, FromSeconds(learned));
}

Duration FailureDetector::StoodStill(TimePoint now, int rank) const {
  return now - ranks_[static_cast<size_t>(rank)].changed;
}

int FailureDetector::NumOthersIn(const std::string& operation, int rank) const {
  int count = 0;
  for (int other = 0; other < static_cast<int>(ranks_.size()); ++other) {
    const Rank& r = ranks_[static_cast<size_t>(other)];
    if (other != rank && !r.left && r.last.operation == operation) ++count;
  }
  return count;
}

// Whether rank a is further behind than rank b.
bool FailureDetector::Behind(TimePoint now, int a, int b) const {
  const Rank& ra = ranks_[static_cast<size_t>(a)];
  const Rank& rb = ranks_[static_cast<size_t>(b)];
  if (ra.last.step != rb.last.step) return ra.last.step < rb.last.step;
  if (ra.last.counter != rb.last.counter) return ra.last.counter < rb.last.counter;
  // Equal work done: a process that cannot even report is the one that hangs ...
  const bool silent_a = now - ra.heard > options_.report_gap;
  const bool silent_b = now - rb.heard > options_.report_gap;
  if (silent_a != silent_b) return silent_a;
  // ... else the one that is not where most others wait.
  const int company_a = NumOthersIn(ra.last.operation, a);
  const int company_b = NumOthersIn(rb.last.operation, b);
  if (company_a != company_b) return company_a < company_b;
  return ra.changed < rb.changed;
}

std::string FailureDetector::Sentence(TimePoint now, int rank) const {
  const Rank& r = ranks_[static_cast<size_t>(rank)];
  std::string text = "rank " + std::to_string(rank) + " has stood still for " +
                     HumanSeconds(ToSeconds(StoodStill(now, rank))) + " while " +
                     WorkerPhaseName(r.last.phase) + " at step " + std::to_string(r.last.step);
  if (!r.last.operation.empty()) text += " in \"" + r.last.operation + "\"";
  text += " (limit " + HumanSeconds(ToSeconds(Limit(rank))) + ")";
  if (now - r.heard > options_.report_gap) {
    text += "; it has sent no report for " + HumanSeconds(ToSeconds(now - r.heard));
  }
  int waiting = 0;
  Duration longest = Duration::zero();
  for (int other = 0; other < static_cast<int>(ranks_.size()); ++other) {
    if (other == rank || ranks_[static_cast<size_t>(other)].left) continue;
    ++waiting;
    longest = std::max(longest, StoodStill(now, other));
  }
  if (waiting > 0) {
    text += "; " + std::to_string(waiting) +
            (waiting == 1 ? " other rank has" : " other ranks have") + " waited up to " +
            HumanSeconds(ToSeconds(longest));
  }
  return text;
}

HangVerdict FailureDetector::Check(TimePoint now) const {
  int behind = -1;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    const Rank& r = ranks_[static_cast<size_t>(rank)];
    if (r.left || r.last.phase == WorkerPhase::kDone) continue;
    if (behind < 0 || Behind(now, rank, behind)) behind = rank;
  }
  // The others may wait as long as the last one is allowed to work.
  if (behind < 0 || StoodStill(now, behind) <= Limit(behind)) return {};
  return {behind, Sentence(now, behind)};
}

}  // namespace weft
