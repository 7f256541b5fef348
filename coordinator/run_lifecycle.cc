#include "coordinator/run_lifecycle.h"

#include <unistd.h>

#include <chrono>
#include <optional>
#include <utility>
#include <variant>

#include "cluster/base/logging.h"
#include "cluster/rpc/frame_codec.h"
#include "coordinator/control_messages.h"
#include "coordinator/membership_events.h"
#include "coordinator/wall_time.h"

namespace weft {
namespace {

constexpr auto kWaitIsNews = std::chrono::seconds(1);
// Of each rank, when one hangs.
constexpr int kOperationsOfARank = 16;

}  // namespace

RunLifecycle::RunLifecycle(TimePoint now, const CoordinatorOptions& options, RunParts parts)
    : options_(options),
      parts_(std::move(parts)),
      state_(InitialMembership(now, parts_.journal->epoch())),
      detector_(options.detector) {}

void RunLifecycle::Begin(TimePoint now) {
  parts_.chronicle->OnCoordinatorStart(state_.token, parts_.committer->Committed());
  DecideAndAct(now);
}

void RunLifecycle::SendToAgent(int agent, control::Frame frame) {
  frame.mutable_token()->set_epoch(state_.token.epoch);
  frame.mutable_token()->set_generation(state_.token.generation);
  parts_.send(agent, frame);
}

void RunLifecycle::SendToRank(int rank, const control::CoordinatorMessage& message) {
  if (rank < 0 || rank >= static_cast<int>(state_.workers.size())) return;
  SendToAgent(state_.workers[static_cast<size_t>(rank)].agent, ToWorkerFrame(rank, message));
}

void RunLifecycle::SendToAllRanks(const control::CoordinatorMessage& message) {
  for (size_t rank = 0; rank < state_.workers.size(); ++rank) {
    SendToRank(static_cast<int>(rank), message);
  }
}

// ---------------------------------------------------------------- events

StatusOr<int> RunLifecycle::OnHello(TimePoint now, const control::AgentHello& hello) {
  if (hello.capacity() < 1) return InvalidArgument("capacity must be at least 1");
  if (over()) return FailedPrecondition("the run is over");
  return OnAgentHello(now, hello.host(), hello.pid(), hello.incarnation(), hello.capacity(),
                      &state_);
}

void RunLifecycle::OnJoined(TimePoint now, int agent) {
  SendToAgent(agent, WelcomeFrame(agent, options_.heartbeat_s, options_.membership.lease));
  DecideAndAct(now);
}

void RunLifecycle::OnFrame(TimePoint now, int agent, const control::Frame& frame) {
  const Token token = FromWire(frame.token());
  OnAgentHeard(now, agent, &state_);
  switch (frame.body_case()) {
    case control::Frame::kHeartbeat:
      parts_.send(agent, HeartbeatAckFrame(frame.heartbeat().sequence()));
      break;
    case control::Frame::kWorkersGone:
      OnWorkersGone(token, agent, &state_);
      break;
    case control::Frame::kWorkerExited: {
      const control::WorkerExited& exited = frame.worker_exited();
      if (token == state_.token) detector_.OnLeft(exited.rank());
      OnWorkerExited(now, token, exited.rank(), exited.exit_code(), exited.signal(), &state_);
      break;
    }
    case control::Frame::kFromWorker:
      OnWorkerMessage(now, token, frame.from_worker());
      break;
    default:
      WEFT_LOG(WARNING) << "agent " << agent << " sent a " << FrameName(frame) << " frame; dropped";
  }
  DecideAndAct(now);
}

void RunLifecycle::OnLost(TimePoint now, int agent, const Status& why) {
  if (!over()) WEFT_LOG(WARNING) << "agent " << agent << ": " << why;
  OnAgentLost(now, agent, "closed its connection", &state_);
  DecideAndAct(now);
}

void RunLifecycle::OnSignal(TimePoint now, const std::string& name) {
  if (state_.stop_requested) {
    parts_.chronicle->OnSecondStop(name);
    OnSecondSignal(&state_);
  } else {
    parts_.chronicle->OnStopRequested(state_.token, name);
    OnStopRequested(now, name, &state_);
  }
  DecideAndAct(now);
}

void RunLifecycle::OnTick(TimePoint now) {
  const bool waits = state_.phase == MembershipPhase::kWaitingForAgents;
  if (waits && now - state_.phase_since > kWaitIsNews) parts_.chronicle->OnWaiting(last_reason_);
  Deliver(parts_.committer->OnTick(now));
  if (GenerationLives(state_)) LookForHangs(now);
  DecideAndAct(now);
}

void RunLifecycle::OnPaused(TimePoint now) {
  for (const auto& [id, agent] : state_.agents) OnAgentHeard(now, id, &state_);
}

// ---------------------------------------------------------------- from workers

void RunLifecycle::OnWorkerMessage(TimePoint now, Token token, const control::FromWorker& from) {
  if (token != state_.token) {
    ++num_stale_;
    return;
  }
  const int rank = from.rank();
  const control::WorkerMessage& message = from.message();
  switch (message.body_case()) {
    case control::WorkerMessage::kHello:
      return OnWorkerHello(now, token, rank, message.hello(), &state_);
    case control::WorkerMessage::kProgress:
      return OnProgress(now, rank, message.progress());
    case control::WorkerMessage::kStep:
      return parts_.chronicle->OnStep(now, token, message.step());
    case control::WorkerMessage::kSaveRequest:
      return Deliver(parts_.committer->OnSaveRequest(
          now, token, rank, message.save_request().step(), message.save_request().train_state()));
    case control::WorkerMessage::kShardPrepared: {
      const control::ShardPrepared& shard = message.shard_prepared();
      return Deliver(parts_.committer->OnShardPrepared(
          now, token, rank, shard.step(), shard.attempt(), shard.shard_info(), shard.error()));
    }
    case control::WorkerMessage::kEval:
      return parts_.chronicle->OnEval(token, message.eval());
    case control::WorkerMessage::kFinished:
      detector_.OnLeft(rank);
      return OnWorkerFinished(token, rank, message.finished().step(), message.finished().complete(),
                              &state_);
    case control::WorkerMessage::kFailed:
      return OnFailed(now, rank, message.failed());
    case control::WorkerMessage::kFlightDump:
      return inquiry_.OnDump(rank, message.flight_dump());
    case control::WorkerMessage::BODY_NOT_SET:
      return;
  }
}

void RunLifecycle::OnProgress(TimePoint now, int rank, const control::Progress& progress) {
  if (rank < 0 || rank >= static_cast<int>(progress_.size())) return;
  const ProgressReport report = FromWire(progress);
  progress_[static_cast<size_t>(rank)] = report;
  detector_.OnProgress(now, rank, report);
  const bool running =
      report.phase != WorkerPhase::kStarting && report.phase != WorkerPhase::kLoading;
  OnWorkerProgress(state_.token, rank, report.step, running, &state_);
}

void RunLifecycle::OnFailed(TimePoint now, int rank, const control::Failed& failed) {
  const auto code = static_cast<StatusCode>(failed.code());
  // What does not verify is never started from again: the next generation takes the checkpoint before it.
  const bool loading = rank >= 0 && rank < static_cast<int>(progress_.size()) &&
                       progress_[static_cast<size_t>(rank)].phase == WorkerPhase::kLoading;
  if (code == StatusCode::kCorruption && loading && !start_manifest_.empty()) {
    const Status marked = parts_.committer->MarkBad(start_manifest_, failed.message());
    if (!marked.ok()) WEFT_LOG(ERROR) << "mark " << start_manifest_ << " as bad: " << marked;
    parts_.chronicle->OnBad(state_.token, start_manifest_, failed.message());
  }
  OnWorkerFailed(now, state_.token, rank, code, failed.message(), &state_);
}

void RunLifecycle::LookForHangs(TimePoint now) {
  const HangVerdict hang = detector_.Check(now);
  if (hang.rank < 0) return inquiry_.Reset(options_.membership.world_size);
  switch (inquiry_.OnVerdict(now)) {
    case HangInquiry::Next::kAsk:
      return SendToAllRanks(DumpMessage(kOperationsOfARank));
    case HangInquiry::Next::kWait:
      return;
    case HangInquiry::Next::kDecide:
      OnHang(now, state_.token, hang.rank, hang.verdict + ReportInquiry(hang.rank), &state_);
  }
}

// What the ranks did last goes to a file beside their logs; the verdict gets the operation of `rank` and the file's name.
std::string RunLifecycle::ReportInquiry(int rank) {
  const std::string path =
      JoinPath(parts_.log_dir, "operations.g" + std::to_string(state_.token.generation) + ".log");
  const Status written = WriteFileDurably(parts_.fs, path, inquiry_.Report());
  if (!written.ok()) WEFT_LOG(WARNING) << "the last operations: " << written;
  const std::string last = inquiry_.LastOperation(rank);
  return (last.empty() ? "" : "; its last operation: " + last) +
         (written.ok() ? "; the last operations of all ranks are in " + path : "");
}

void RunLifecycle::Deliver(const std::vector<LedgerMessage>& messages) {
  for (const LedgerMessage& message : messages) {
    if (const auto* grant = std::get_if<SendGrant>(&message)) {
      SendToRank(grant->rank,
                 GrantMessage(*grant, parts_.committer->AttemptDirectory(grant->name)));
    } else if (const auto* outcome = std::get_if<SendOutcome>(&message)) {
      SendToRank(outcome->rank, OutcomeMessage(*outcome));
      if (outcome->rank == 0) ReportOutcome(*outcome);
    }
  }
  if (left()) {
    end_ = {kExitFailed, "another coordinator has taken over " + parts_.run_dir +
                             ": this one leaves without another word"};
  }
}

void RunLifecycle::ReportOutcome(const SendOutcome& outcome) {
  if (!outcome.committed) {
    return parts_.chronicle->OnSaveFailed(state_.token, outcome.step, outcome.reason);
  }
  OnCommit(state_.token, &state_);
  const std::vector<journal::SaveCommit> committed = parts_.committer->Committed();
  const int64_t bytes = committed.empty() ? 0 : static_cast<int64_t>(committed.front().bytes());
  parts_.chronicle->OnCommitted(state_.token, outcome.step, bytes);
}

// ---------------------------------------------------------------- decisions

void RunLifecycle::DecideAndAct(TimePoint now) {
  while (true) {
    const MembershipPhase before = state_.phase;
    const MembershipDecision decision = Decide(now, state_, options_.membership);
    state_ = decision.next;
    if (before == MembershipPhase::kDraining && state_.phase != before) {
      parts_.chronicle->OnReaped(now);
    }
    // A performed action may find that the coordinator itself cannot go on.
    const auto fatal_now = [&] { return !state_.fatal.empty() && decision.next.fatal.empty(); };
    for (const MembershipAction& action : decision.actions) {
      Perform(now, action);
      if (fatal_now()) break;
    }
    if (!decision.reason.empty()) last_reason_ = decision.reason;
    if (before != state_.phase) {
      parts_.chronicle->OnMembershipPhase(state_.token, state_.phase, last_reason_);
    }
    if (!decision.changed && !fatal_now()) return;
  }
}

void RunLifecycle::Perform(TimePoint now, const MembershipAction& action) {
  switch (action.kind) {
    case MembershipActionKind::kActivate:
      return Activate(now);
    case MembershipActionKind::kSpawn:
      return SendToAgent(action.agent, SpawnFrame(action.ranks, parts_.log_dir));
    case MembershipActionKind::kStart:
      return StartWorkers(now);
    case MembershipActionKind::kStopWorkers:
      return SendToAllRanks(StopMessage(action.reason));
    case MembershipActionKind::kEndGeneration:
      return EndGeneration(now, action);
    case MembershipActionKind::kKillWorkers:
      return SendToAgent(action.agent, KillFrame(action.grace_s));
    case MembershipActionKind::kShutdown:
      return Shutdown(action);
  }
}

void RunLifecycle::Activate(TimePoint now) {
  const int world_size = options_.membership.world_size;
  journal::Record record;
  record.mutable_generation_active()->set_generation(state_.token.generation);
  record.mutable_generation_active()->set_world_size(world_size);
  for (const WorkerState& worker : state_.workers) {
    record.mutable_generation_active()->add_hosts(state_.agents[worker.agent].host);
  }
  const Status status = parts_.journal->Append(std::move(record));
  if (!status.ok()) {
    OnFatal("the journal cannot be written: " + status.message(), &state_);
    return;
  }
  detector_.Reset(now, world_size);
  inquiry_.Reset(world_size);
  progress_.assign(static_cast<size_t>(world_size), ProgressReport{});
  Deliver(parts_.committer->OnGeneration(now, state_.token, world_size));
}

void RunLifecycle::StartWorkers(TimePoint now) {
  parts_.chronicle->OnRespawned(now);
  const auto manifest = parts_.committer->LatestManifest();
  if (!manifest.ok()) {
    OnFatal("the last checkpoint cannot be read: " + manifest.status().message(), &state_);
    return;
  }
  const StatusOr<DevicePlan> devices = PlanDevices(options_.recipe.layout(), Places());
  if (!devices.ok()) {
    OnFatal(devices.status().message(), &state_);
    return;
  }
  Recipe recipe = options_.recipe;
  *recipe.mutable_layout() = devices->layout;
  control::CoordinatorMessage message;
  control::Start* start = message.mutable_start();
  start->set_world_size(options_.membership.world_size);
  start->set_recipe(recipe.SerializeAsString());
  start->set_comm_id(state_.workers.front().said->comm_id());
  start->set_run_dir(parts_.run_dir);
  start->set_run_token(parts_.run_token);
  start->set_checkpoint_dir(parts_.committer->checkpoint_dir());
  for (const WorkerState& worker : state_.workers) start->add_endpoints(worker.endpoint);
  int64_t from_step = 0;
  start_manifest_.clear();
  if (manifest->has_value()) {
    start->set_manifest((*manifest)->SerializeAsString());
    from_step = (*manifest)->state().step();
    start_manifest_ = ManifestFileName(NameOf(**manifest));
  }
  for (size_t rank = 0; rank < state_.workers.size(); ++rank) {
    start->set_rank(static_cast<int>(rank));
    start->set_gpu(devices->gpus[rank]);
    SendToRank(static_cast<int>(rank), message);
  }
  parts_.chronicle->OnDevices(devices->text);
  parts_.chronicle->OnGenerationStart(state_.token, from_step);
}

std::vector<RankPlace> RunLifecycle::Places() const {
  std::vector<RankPlace> places;
  for (const WorkerState& worker : state_.workers)
    places.push_back({state_.agents.at(worker.agent).host, worker.said.get()});
  return places;
}

void RunLifecycle::EndGeneration(TimePoint now, const MembershipAction& action) {
  Deliver(parts_.committer->OnGenerationEnd(now, action.reason));
  if (!action.failure) return;
  parts_.chronicle->OnLost(now, state_.token, state_.end_cause.value_or(EndCause{}), action.reason);
}

void RunLifecycle::Shutdown(const MembershipAction& action) {
  parts_.chronicle->OnOver(state_.token, action.exit_code, action.reason);
  end_ = {action.exit_code, action.reason};
  for (const auto& [agent, unused] : state_.agents) {
    SendToAgent(agent, ShutdownFrame(action.exit_code, action.reason));
  }
}

// ---------------------------------------------------------------- for people

RunStatus RunLifecycle::Snapshot(TimePoint now) const {
  const ThroughputWindow& window = parts_.chronicle->window();
  RunStatus status;
  status.name = options_.recipe.name();
  status.run_dir = parts_.run_dir;
  status.pid = ::getpid();
  status.epoch = state_.token.epoch;
  status.generation = state_.token.generation;
  status.phase = MembershipPhaseName(state_.phase);
  status.reason = last_reason_;
  status.step = parts_.chronicle->last_step().step();
  status.steps = options_.recipe.steps();
  status.loss = parts_.chronicle->last_step().loss();
  status.images_per_s = window.SamplesPerSecond();
  status.data_wait = window.DataWait();
  status.data_bottleneck = window.DataBottleneck();
  status.peer_wait = window.PeerWait();
  status.save_wait = window.SaveWait();
  status.eta_s = static_cast<double>(status.steps - status.step) * window.StepSeconds();
  status.stale_frames = num_stale_ + parts_.committer->ledger().num_stale();
  for (size_t rank = 0; rank < state_.workers.size(); ++rank) {
    const WorkerState& worker = state_.workers[rank];
    const ProgressReport report = rank < progress_.size() ? progress_[rank] : ProgressReport{};
    const auto agent = state_.agents.find(worker.agent);
    const int r = static_cast<int>(rank);
    status.members.push_back({r, agent == state_.agents.end() ? "" : agent->second.host, worker.pid,
                              WorkerPhaseName(report.phase), report.step, report.operation,
                              ToSeconds(detector_.StoodStill(now, r))});
  }
  for (const journal::SaveCommit& commit : parts_.committer->Committed()) {
    status.checkpoints.push_back({commit.step(), commit.manifest(), commit.bytes(),
                                  static_cast<double>(UnixMs() - commit.unix_ms()) / 1000});
  }
  for (const Recovery& recovery : parts_.chronicle->recoveries()) {
    status.recoveries.push_back({recovery.verdict, recovery.from_step, recovery.seconds});
  }
  return status;
}

}  // namespace weft
