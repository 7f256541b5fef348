// Tells what happens in a run: the person at the console at once, whoever reads the records later, and, of losses, recoveries
// and the end, the next coordinator through the journal. Decides nothing: what cannot be written is warned of and the run
// goes on.
//
// Thread rule: one thread at a time; no clock but the `now` that it is given.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/console.h"
#include "coordinator/journal.h"
#include "coordinator/membership_state.h"
#include "coordinator/recovery_timeline.h"
#include "coordinator/run_recorder.h"
#include "coordinator/token.h"

namespace weft {

class RunChronicle {
 public:
  // `live`: `out` is a terminal. Journal and recorder outlive it.
  RunChronicle(std::FILE* out, bool live, std::string run_dir, int64_t num_steps, Journal* journal,
               RunRecorder* recorder);

  // `committed`: newest first.
  void OnCoordinatorStart(Token token, const std::vector<journal::SaveCommit>& committed);
  // Said once each, while it stays the same.
  void OnWaiting(const std::string& reason);
  void OnDevices(const std::string& text);
  void OnMembershipPhase(Token token, MembershipPhase phase, const std::string& reason);

  // ---- a generation
  void OnLost(TimePoint now, Token token, const EndCause& cause, const std::string& reason);
  void OnReaped(TimePoint now) { recovery_.OnPhase(now, "reap"); }
  void OnRespawned(TimePoint now) { recovery_.OnPhase(now, "respawn"); }
  void OnGenerationStart(Token token, int64_t from_step);
  void OnStep(TimePoint now, Token token, const control::StepRecord& record);
  void OnEval(Token token, const control::EvalRecord& record) { recorder_->OnEval(token, record); }

  // ---- checkpoints
  void OnCommitted(Token token, int64_t step, int64_t bytes);
  void OnSaveFailed(Token token, int64_t step, const std::string& reason);
  void OnBad(Token token, const std::string& manifest, const std::string& reason);

  // ---- the end
  void OnStopRequested(Token token, const std::string& signal);
  void OnSecondStop(const std::string& signal);
  void OnOver(Token token, int exit_code, const std::string& reason);
  // Ends the live line.
  void Finish() { console_.Finish(); }

  const ThroughputWindow& window() const { return console_.window(); }
  // Default before the first.
  const control::StepRecord& last_step() const { return last_step_; }
  // Oldest first.
  const std::vector<Recovery>& recoveries() const { return recoveries_; }

 private:
  void OnRecovered(Token token, const Recovery& recovery);
  void Append(journal::Record record);

  const std::string run_dir_;
  const int64_t num_steps_;
  Journal* const journal_;
  RunRecorder* const recorder_;
  Console console_;
  RecoveryTimeline recovery_;
  std::vector<Recovery> recoveries_;
  control::StepRecord last_step_;
  std::string said_waiting_;
  std::string said_devices_;
};

}  // namespace weft
