// `weft bench step`: training steps of a recipe under its layout, ranks as threads of one process, on synthetic batches:
// throughput, the pipeline's bubble beside the ideal one, and how much of the exchange over dp hides behind the backward.
//
// Errors: InvalidArgument for a layout that does not fit; those of a step. Thread rule: makes its own threads.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/memory/memory_meter.h"
#include "parallel/schedule/simulate.h"
#include "worker/bench/simulated_model.h"

namespace weft {

struct StepBenchOptions {
  Recipe recipe;
  // Measured; two more warm up.
  int steps = 5;
  // On this device of the accelerator, one rank only: LibTorch has one thread a device for all backward passes, in which
  // ranks as threads would wait for each other. -1: on the CPU.
  int device = -1;
  // Set: blocks that only take time, instead of the recipe's model.
  std::optional<SimulatedCosts> simulated;
};

struct StepBenchReport {
  // Of a step, the mean; samples of the global batch.
  double step_seconds = 0;
  double samples = 0;
  // Of the model's forward and backward passes, multiplications and additions (recomputation does not count), and that as a
  // share of what matrix products of the recipe's precision reach here on their own (model FLOP utilisation; Chowdhery et al.
  // 2022, with a measured peak). 0 for simulated blocks.
  double flops_per_second = 0;
  double mfu = 0;
  // Of the pipeline of the first dp and tp rank in the last step; idle time of all its ranks.
  Timeline timeline;
  double bubble = 0;
  double ideal_bubble = 0;
  // Seconds a step and rank: operations over dp, and how long the step waited for them.
  double dp_seconds = 0;
  double dp_waited = 0;
  // By operation: seconds a step and rank that were waited.
  std::map<std::string, double> waits;
  // Of the rank that held the most at once.
  MemoryReport memory;
};

StatusOr<StepBenchReport> BenchStep(const StepBenchOptions& options);

}  // namespace weft
