// The run's life as one machine without sockets or a clock: frames of agents and workers, signals and ticks go in with the
// time, frames for agents come out. It applies the decisions of membership, failure detector and checkpoint ledger in their
// order, and tells the chronicle what happened.
//
// Every entry may end the run: the caller looks at `left()` and `over()` after each, and cuts the agents that HasAgent no
// longer knows (membership gives agents up; what they still say must not count).
//
// Thread rule: one thread at a time. Blocks for the few fsyncs of a commit.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/checkpoint_committer.h"
#include "coordinator/coordinator_options.h"
#include "coordinator/device_plan.h"
#include "coordinator/failure_detector.h"
#include "coordinator/hang_inquiry.h"
#include "coordinator/journal.h"
#include "coordinator/membership.h"
#include "coordinator/membership_state.h"
#include "coordinator/run_chronicle.h"
#include "coordinator/run_status.h"

namespace weft {

// What a life works with; all of it outlives it.
struct RunParts {
  FileSystem* fs = nullptr;
  std::string run_dir;  // absolute
  std::string log_dir;
  std::string run_token;
  Journal* journal = nullptr;
  CheckpointCommitter* committer = nullptr;
  RunChronicle* chronicle = nullptr;
  // A frame for an agent; nothing if it is gone.
  std::function<void(int agent, const control::Frame& frame)> send;
};

class RunLifecycle {
 public:
  RunLifecycle(TimePoint now, const CoordinatorOptions& options, RunParts parts);

  // The first decision; nothing is sent yet.
  void Begin(TimePoint now);

  // ---- events
  // A number for the new agent, or why it is refused.
  StatusOr<int> OnHello(TimePoint now, const control::AgentHello& hello);
  // It has its number and can be sent to.
  void OnJoined(TimePoint now, int agent);
  void OnFrame(TimePoint now, int agent, const control::Frame& frame);
  void OnLost(TimePoint now, int agent, const Status& why);
  // "SIGINT", "SIGTERM": the first stops the run at a step boundary, the second at once.
  void OnSignal(TimePoint now, const std::string& name);
  void OnTick(TimePoint now);
  // This process was stopped for a while: the silence of others proves nothing.
  void OnPaused(TimePoint now);

  bool HasAgent(int agent) const { return state_.agents.count(agent) > 0; }
  // The shutdown frames are out: only goodbyes follow.
  bool over() const { return state_.phase == MembershipPhase::kOver; }
  // Another coordinator has taken over: leave at once, without another word.
  bool left() const { return parts_.committer->superseded(); }
  // Once over or left.
  const CoordinatorEnd& end() const { return end_; }
  RunStatus Snapshot(TimePoint now) const;

 private:
  // ---- from workers of the current generation
  void OnWorkerMessage(TimePoint now, Token token, const control::FromWorker& from);
  void OnProgress(TimePoint now, int rank, const control::Progress& progress);
  void OnFailed(TimePoint now, int rank, const control::Failed& failed);
  void Deliver(const std::vector<LedgerMessage>& messages);
  void ReportOutcome(const SendOutcome& outcome);
  void LookForHangs(TimePoint now);
  std::string ReportInquiry(int rank);

  // ---- decisions
  void DecideAndAct(TimePoint now);
  void Perform(TimePoint now, const MembershipAction& action);
  void Activate(TimePoint now);
  void StartWorkers(TimePoint now);
  std::vector<RankPlace> Places() const;
  void EndGeneration(TimePoint now, const MembershipAction& action);
  void Shutdown(const MembershipAction& action);

  void SendToAgent(int agent, control::Frame frame);
  void SendToRank(int rank, const control::CoordinatorMessage& message);
  void SendToAllRanks(const control::CoordinatorMessage& message);

  const CoordinatorOptions options_;
  const RunParts parts_;
  MembershipState state_;
  std::string last_reason_;
  FailureDetector detector_;
  HangInquiry inquiry_;
  std::vector<ProgressReport> progress_;  // by rank, of the current generation
  std::string start_manifest_;  // name of the checkpoint that this generation started from
  uint64_t num_stale_ = 0;
  CoordinatorEnd end_;
};

}  // namespace weft
