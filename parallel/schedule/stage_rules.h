// The rules of one stage at a time: what has to be done before an action may run, and what must have been done when the
// lists have ended. Messages between ranks and waiting are the verifier's.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/schedule/action.h"
#include "parallel/schedule/program_spec.h"

namespace weft {

class StageRules {
 public:
  // `spec` must outlive it and have passed CheckProgramSpec.
  explicit StageRules(const ProgramSpec& spec);

  // Phase, stage and micro-batch exist, and on this rank.
  Status CheckFields(int rank, const Action& action) const;
  // Any action but messages and ties: it is allowed now, and is done.
  Status Apply(int rank, const Action& action);
  // The tensor of this send is computed and goes out for the first time.
  Status Send(const Action& send);
  void Receive(const Action& recv);
  // Nothing is left to reduce of this stage.
  Status CheckReduced(int stage) const;
  // All that the stage has to do is done.
  Status CheckComplete(int stage) const;

 private:
  struct StageState {
    bool gathered = false;
    bool was_gathered = false;
    // The phase of the last weight gradient.
    int open_phase = -1;
  };
  // How far a stage is in a phase: micro-batches, slots, rounds.
  struct PassState {
    int forwards = 0;
    int backwards = 0;
    int weights = 0;
    int slots_done = 0;
    int reduced = 0;
  };

  void FindForwardPhases();
  Status CheckJoinsBefore(const Action& action) const;
  Status CheckParameters(const Action& action) const;
  Status CheckHasBackward(const Action& action) const;
  Status Forward(int rank, const Action& action);
  Status InputGradients(const Action& action);
  Status WeightGradients(int rank, const Action& action);
  Status SlotDone(const Action& action);
  Status Reduce(const Action& action);
  Status Gather(int rank, const Action& action);
  Status Release(int rank, const Action& action);
  Status Join(const Action& action);
  Status CheckPassComplete(int phase, int stage) const;

  int num_phases() const { return static_cast<int>(spec_.phases.size()); }
  int last_stage() const { return spec_.num_stages() - 1; }
  int rounds() const { return spec_.zero_stage == 1 ? 1 : spec_.max_slots(); }
  bool HasBackward(int phase, int stage) const {
    return spec_.RunsBackward(phase) && stage >= spec_.first_backward_stage;
  }
  size_t PassIndex(int phase, int stage) const;
  size_t FlagIndex(int phase, int stage, int micro_batch) const;
  int& Held(int rank, int backward_phase);

  const ProgramSpec& spec_;
  int m_;
  std::vector<StageState> stages_;
  // By phase, stage.
  std::vector<PassState> passes_;
  // What has happened, by phase, stage, micro-batch.
  std::vector<uint8_t> flags_;
  // Micro-batches between forward and weight gradients, by rank, backward phase.
  std::vector<int> held_;
  // Stages that are gathered, by rank.
  std::vector<int> gathered_;
  std::vector<bool> joined_;
  // The phase whose forwards the backwards of a phase belong to, and the inverse; -1: none.
  std::vector<int> forward_of_;
  std::vector<int> backward_of_;
};

}  // namespace weft
