// One optimizer step, as the paper's algorithm: batch, forward, loss, backward, gradient over all slots, clip, AdamW.
//
// Thread rule: the training thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/base/status.h"
#include "parallel/engine/engine.h"
#include "worker/rank_state.h"
#include "worker/session.h"

namespace weft {

struct StepResult {
  double loss = 0;
  double grad_norm = 0;
  double lr = 0;
  std::vector<Metric> metrics;
  // Of this rank.
  int64_t samples = 0;
  double data_wait_s = 0;
  double peer_wait_s = 0;
};

// `step` counts from 0. A collective: every rank of the session calls it.
// Errors: of the loader and of collectives; Internal on all ranks alike if a loss or the norm is not finite.
StatusOr<StepResult> TrainStep(Session* session, int64_t step);

// The same on micro-batches in memory: own slots in order, the M micro-batches of each.
StatusOr<StepResult> TrainStepOn(RankState* rank, int64_t step, StepInputs inputs);
StatusOr<StepResult> TrainStepOn(RankState* rank, int64_t step,
                                 std::span<const NamedTensors> micro_batches);

}  // namespace weft
