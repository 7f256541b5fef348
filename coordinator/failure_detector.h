// Tells a hang from slow work. A hung worker is alive, so only its progress shows it: each rank reports phase, step and a
// counter of finished operations; the limit for standing still is learned from the step times,
//   limit = max(floor, 5 * p99 of the step times),
// with limits of their own for the first steps and for loading, saving and evaluating. All state is cleared at each
// generation, so that stale events never kill a fresh one.
//
// In a synchronous step all ranks stand still when one does, so the verdict names the rank that is furthest behind.
//
// Thread rule: a value; no clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/clock.h"

namespace weft {

// As control.Phase; kept apart so that the decision knows nothing of messages.
enum class WorkerPhase { kStarting, kLoading, kTraining, kSaving, kEvaluating, kDone };
const char* WorkerPhaseName(WorkerPhase phase);

struct FailureDetectorOptions {
  Duration floor = FromSeconds(60);
  double factor = 5;
  // Steps of a generation that are judged by `first_steps` instead of by history.
  int num_first_steps = 5;
  Duration first_steps = FromSeconds(300);
  Duration starting = FromSeconds(300);
  Duration loading = FromSeconds(1800);
  Duration saving = FromSeconds(1800);
  Duration evaluating = FromSeconds(1800);
  // A rank whose reports stop for this long is not even able to say that it stands still.
  Duration report_gap = FromSeconds(5);
  // Step times that are remembered, a rank.
  int history = 256;
};

struct ProgressReport {
  WorkerPhase phase = WorkerPhase::kStarting;
  int64_t step = 0;
  uint64_t counter = 0;
  std::string operation;
};

struct HangVerdict {
  int rank = -1;  // -1: nobody hangs
  // "rank 2 has stood still for 61 s in "all_to_all grads.0 #812" at step 118 (limit 60 s, ...); 3 ranks wait for it".
  std::string verdict;
};

class FailureDetector {
 public:
  explicit FailureDetector(FailureDetectorOptions options) : options_(options) {}

  // A new generation starts: everything is forgotten.
  void Reset(TimePoint now, int world_size);
  void OnProgress(TimePoint now, int rank, const ProgressReport& report);
  // The worker has said that it is done, or is gone.
  void OnLeft(int rank);
  HangVerdict Check(TimePoint now) const;
  // How long this rank may stand still now.
  Duration Limit(int rank) const;
  // Since when it has.
  Duration StoodStill(TimePoint now, int rank) const;

 private:
  struct Rank {
    ProgressReport last;
    TimePoint changed{};
    TimePoint heard{};
    TimePoint step_began{};
    int steps_done = 0;
    std::vector<Duration> step_times;  // a ring of options_.history
    bool left = false;
  };
  bool Behind(TimePoint now, int a, int b) const;
  int NumOthersIn(const std::string& operation, int rank) const;
  std::string Sentence(TimePoint now, int rank) const;

  FailureDetectorOptions options_;
  std::vector<Rank> ranks_;
};

}  // namespace weft
