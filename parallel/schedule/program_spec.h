// What a schedule is made for: pipeline ranks and stages, slots and micro-batches, the phases of the objective.
//
// Errors: InvalidArgument that names the field ("layout.pp"), the rule and the nearest values that work.
// Thread rule: values; pure functions.
#pragma once

#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/layout.pb.h"

namespace weft {

// kForward runs all forwards of a wave, kBackward all its backwards, kTrain both in the order of the schedule.
enum class PassKind { kForward, kBackward, kTrain };

struct PhaseSpec {
  // The phase is a join; the other fields mean nothing.
  bool join = false;
  PassKind pass = PassKind::kTrain;
  // A wave is run by one kTrain, by one kForward, or by one kForward and a later kBackward.
  int wave = 0;
};

struct ProgramSpec {
  // p, and v: stages on each rank. Stage s of p * v runs on rank s % p.
  int ranks = 1;
  int chunks = 1;
  // M.
  int micro_batches_a_slot = 1;
  PipelineSchedule schedule = ONE_F_ONE_B;
  std::vector<PhaseSpec> phases = {PhaseSpec{}};
  // keep_wave FEATURES: nothing of a kForward phase is kept, and its kBackward phase runs forwards and backwards in the
  // order of the schedule.
  bool rerun_forward = false;
  int dp = 1;
  int dp_rank = 0;
  // V. ZeRO 1: neighbouring slots on a rank; 2 and 3: slot = round * dp + dp_rank.
  int slots = 1;
  int zero_stage = 1;
  // With zero_stage 3 and ranks > 1; one rank always gathers by micro-batch.
  GatherMode gather = GATHER_STEP;
  // Stages before it are frozen: they have no backward, hence no gradients to send, sum or exchange. num_stages(): all are.
  int first_backward_stage = 0;
  // Stages of an owner and of its replica.
  std::vector<std::pair<int, int>> ties;

  int num_stages() const { return ranks * chunks; }
  int RankOfStage(int stage) const { return stage % ranks; }
  // The dp rank's own slots and micro-batches.
  int own_slots() const { return slots / dp + (dp_rank < slots % dp ? 1 : 0); }
  int micro_batches() const { return own_slots() * micro_batches_a_slot; }
  // Of the rank with the most slots; under ZeRO 2 and 3 also the number of rounds.
  int max_slots() const { return (slots + dp - 1) / dp; }
  // Phase `index` runs forwards (backwards).
  bool RunsForward(int index) const;
  bool RunsBackward(int index) const;
  bool RunsAnyBackward() const;
  // Gathers around each forward and backward, not around the step.
  bool GathersByMicroBatch() const {
    return zero_stage == 3 && (ranks == 1 || gather == GATHER_MICRO_BATCH);
  }
};

// What MakeProgram (program.h) refuses.
Status CheckProgramSpec(const ProgramSpec& spec);

}  // namespace weft
