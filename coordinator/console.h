// What a person sees of a run: one line that renews itself on a terminal, a plain line every ten seconds elsewhere, and
// sentences about what happened between them.
//
// Thread rule: one thread at a time; no clock but the `now` that it is given.
#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

// Means over the last steps.
struct ThroughputWindow {
  void Add(const control::StepRecord& record);
  void Clear() { steps.clear(); }

  double StepSeconds() const;
  double SamplesPerSecond() const;
  // Shares of the time, 0 to 1.
  double DataWait() const;
  double PeerWait() const;
  double SaveWait() const;
  // What the loader's threads do while steps wait for data: "decode", "read", or "cores" (decoding, but no core is free).
  // "": steps hardly wait, or nobody said.
  std::string DataBottleneck() const;

  struct Step {
    double seconds = 0, samples = 0, data = 0, peer = 0, save = 0;
    double decode = 0, read = 0, core_wait = 0;
  };
  std::deque<Step> steps;  // at most 50
};

// "step 120/1000  loss 3.4121  127 samples/s  waiting: data 9% (decode), peers 4%, checkpoints 0%  ETA 3m 20s"
std::string StepLine(int64_t step, int64_t num_steps, double loss, const ThroughputWindow& window);

class Console {
 public:
  // `live`: `out` is a terminal.
  Console(std::FILE* out, bool live, int64_t num_steps)
      : out_(out), live_(live), num_steps_(num_steps) {}

  void OnStep(TimePoint now, const control::StepRecord& record);
  // A line of its own.
  void Say(const std::string& text);
  // Ends the live line.
  void Finish();

  // Steps run from `from_step` again: old means say nothing about it.
  void OnGenerationStart() { window_.Clear(); }
  const ThroughputWindow& window() const { return window_; }

 private:
  std::FILE* const out_;
  const bool live_;
  const int64_t num_steps_;
  ThroughputWindow window_;
  std::string line_;  // shown last on a terminal; "" if the cursor is at the start of an empty line
  TimePoint last_shown_{};
  bool any_shown_ = false;
};

}  // namespace weft
