#include "coordinator/service.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/rpc/event_loop.h"
#include "cluster/rpc/frame_codec.h"
#include "coordinator/agent_links.h"
#include "coordinator/checkpoint_ledger.h"
#include "coordinator/console.h"
#include "coordinator/device_plan.h"
#include "coordinator/hang_inquiry.h"
#include "coordinator/journal.h"
#include "coordinator/recovery_timeline.h"
#include "coordinator/run_directory.h"
#include "coordinator/run_recorder.h"
#include "coordinator/run_status.h"

namespace weft {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
// A tick that is this late means that this process was stopped (Ctrl-Z, a laptop's lid): the silence of others proves
// nothing then.
constexpr auto kPaused = std::chrono::seconds(2);
constexpr auto kWaitIsNews = std::chrono::seconds(1);
constexpr auto kGoodbye = std::chrono::seconds(2);
// Of each rank, when one hangs.
constexpr int kOperationsOfARank = 16;

int64_t UnixMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Token FromWire(const control::Token& token) { return {token.epoch(), token.generation()}; }

WorkerPhase FromWire(control::Phase phase) {
  switch (phase) {
    case control::PHASE_LOADING:
      return WorkerPhase::kLoading;
    case control::PHASE_TRAINING:
      return WorkerPhase::kTraining;
    case control::PHASE_SAVING:
      return WorkerPhase::kSaving;
    case control::PHASE_EVALUATING:
      return WorkerPhase::kEvaluating;
    case control::PHASE_DONE:
      return WorkerPhase::kDone;
    default:
      return WorkerPhase::kStarting;
  }
}

class Coordinator {
 public:
  Coordinator(const CoordinatorOptions& options, RunDirectory* directory, Journal* journal,
              CheckpointCommitter* committer, RunRecorder* recorder);
  Status Listen();
  CoordinatorEnd Run();

 private:
  // ---- agents
  AgentLinks::Callbacks LinkCallbacks();
  StatusOr<int> OnHello(const control::AgentHello& hello);
  void SendToAgent(int agent, control::Frame frame);
  void SendToRank(int rank, const control::CoordinatorMessage& message);

  // ---- events
  void OnAgentFrame(int agent, const control::Frame& frame);
  void OnWorkerMessage(Token token, const control::FromWorker& from);
  void OnProgress(int rank, const control::Progress& progress);
  void OnStepRecord(const control::StepRecord& record);
  void OnFailed(int rank, const control::Failed& failed);
  void OnSignal(int signal);
  void OnTick();
  void Deliver(const std::vector<LedgerMessage>& messages);
  void ReportOutcome(const SendOutcome& outcome);

  // ---- decisions
  void DecideAndAct();
  void LookForHangs(TimePoint now);
  std::string ReportInquiry(int rank);
  void Perform(const MembershipAction& action);
  void Activate();
  void Spawn(const MembershipAction& action);
  void StartWorkers();
  std::vector<RankPlace> Places() const;
  void EndGeneration(const MembershipAction& action);
  void Shutdown(const MembershipAction& action);

  void Say(const std::string& text) { console_.Say(text); }
  void Append(journal::Record record);
  RunStatus Snapshot() const;

  const CoordinatorOptions options_;
  RunDirectory* const directory_;
  Journal* const journal_;
  CheckpointCommitter* const committer_;
  RunRecorder* const recorder_;
  const std::string run_token_;

  EventLoop loop_;
  AgentLinks links_;
  std::unique_ptr<EventLoop::Registration> tick_;
  std::unique_ptr<EventLoop::Registration> signals_;
  std::unique_ptr<EventLoop::Registration> goodbye_;

  MembershipState state_;
  std::string last_reason_;
  std::string said_;          // of what is waited for
  std::string devices_text_;  // what was said last
  FailureDetector detector_;
  HangInquiry inquiry_;
  std::vector<ProgressReport> progress_;  // by rank, of the current generation
  RecoveryTimeline recovery_;
  std::vector<Recovery> recoveries_;
  std::string start_manifest_;  // name of the checkpoint that this generation started from
  Console console_;
  control::StepRecord last_step_;
  TimePoint last_tick_{};
  uint64_t num_stale_ = 0;
  CoordinatorEnd end_;
};

Coordinator::Coordinator(const CoordinatorOptions& options, RunDirectory* directory,
                         Journal* journal, CheckpointCommitter* committer, RunRecorder* recorder)
    : options_(options),
      directory_(directory),
      journal_(journal),
      committer_(committer),
      recorder_(recorder),
      run_token_(NewRunToken()),
      links_(&loop_, run_token_,
             "take the one in " + directory->path() +
                 "/coord/endpoint (it changes with every start of the coordinator)",
             LinkCallbacks()),
      state_(InitialMembership(Clock::now(), journal->epoch())),
      detector_(options.detector),
      console_(stdout, ::isatty(STDOUT_FILENO) == 1, options.recipe.steps()) {}

Status Coordinator::Listen() {
  WEFT_RETURN_IF_ERROR(links_.Listen(options_.bind));
  return directory_->WriteEndpoint(links_.endpoint(), run_token_);
}

CoordinatorEnd Coordinator::Run() {
  signals_ = loop_.OnSignals({SIGINT, SIGTERM}, [this](int signal) { OnSignal(signal); });
  last_tick_ = Clock::now();
  tick_ = loop_.Every(kTick, [this] { OnTick(); });
  const std::vector<journal::SaveCommit> committed = committer_->Committed();
  std::string from;
  if (committed.empty()) {
    from = "starting from init";
  } else {
    const double age = static_cast<double>(UnixMs() - committed.front().unix_ms()) / 1000;
    from = "resuming from step " + std::to_string(committed.front().step()) + ", committed " +
           HumanSeconds(std::max(0.0, age)) + " ago";
  }
  Say(from);
  recorder_->OnEvent(state_.token, "coordinator_started", from,
                     {{"pid", static_cast<int64_t>(::getpid())}});
  if (options_.on_listening) options_.on_listening(links_.endpoint(), run_token_);
  loop_.Post([this] { DecideAndAct(); });
  loop_.Run();
  console_.Finish();
  directory_->RemoveEndpoint();
  return end_;
}

// ---------------------------------------------------------------- agents

AgentLinks::Callbacks Coordinator::LinkCallbacks() {
  AgentLinks::Callbacks callbacks;
  callbacks.on_hello = [this](const control::AgentHello& hello) { return OnHello(hello); };
  callbacks.on_joined = [this](int agent) {
    control::Frame frame;
    control::Welcome* welcome = frame.mutable_welcome();
    welcome->set_agent_id(agent);
    welcome->set_heartbeat_s(options_.heartbeat_s);
    welcome->set_lease_s(ToSeconds(options_.membership.lease));
    SendToAgent(agent, frame);
    DecideAndAct();
  };
  callbacks.on_frame = [this](int agent, const control::Frame& frame) {
    OnAgentFrame(agent, frame);
    DecideAndAct();
  };
  callbacks.on_lost = [this](int agent, const Status& why) {
    if (state_.phase != MembershipPhase::kOver)
      WEFT_LOG(WARNING) << "agent " << agent << ": " << why;
    OnAgentLost(Clock::now(), agent, "closed its connection", &state_);
    DecideAndAct();
  };
  callbacks.status_json = [this] { return ToJson(Snapshot()); };
  return callbacks;
}

StatusOr<int> Coordinator::OnHello(const control::AgentHello& hello) {
  if (hello.capacity() < 1) return InvalidArgument("capacity must be at least 1");
  if (state_.phase == MembershipPhase::kOver) return FailedPrecondition("the run is over");
  return OnAgentHello(Clock::now(), hello.host(), hello.pid(), hello.incarnation(),
                      hello.capacity(), &state_);
}

void Coordinator::SendToAgent(int agent, control::Frame frame) {
  frame.mutable_token()->set_epoch(state_.token.epoch);
  frame.mutable_token()->set_generation(state_.token.generation);
  links_.Send(agent, frame);
}

void Coordinator::SendToRank(int rank, const control::CoordinatorMessage& message) {
  if (rank < 0 || rank >= static_cast<int>(state_.workers.size())) return;
  control::Frame frame;
  frame.mutable_to_worker()->set_rank(rank);
  *frame.mutable_to_worker()->mutable_message() = message;
  SendToAgent(state_.workers[static_cast<size_t>(rank)].agent, std::move(frame));
}

// ---------------------------------------------------------------- events

void Coordinator::OnAgentFrame(int agent, const control::Frame& frame) {
  const TimePoint now = Clock::now();
  const Token token = FromWire(frame.token());
  OnAgentHeard(now, agent, &state_);
  switch (frame.body_case()) {
    case control::Frame::kHeartbeat: {
      control::Frame ack;
      ack.mutable_heartbeat_ack()->set_sequence(frame.heartbeat().sequence());
      links_.Send(agent, ack);
      return;
    }
    case control::Frame::kWorkersGone:
      return OnWorkersGone(token, agent, &state_);
    case control::Frame::kWorkerExited: {
      const control::WorkerExited& exited = frame.worker_exited();
      if (token == state_.token) detector_.OnLeft(exited.rank());
      return OnWorkerExited(now, token, exited.rank(), exited.exit_code(), exited.signal(),
                            &state_);
    }
    case control::Frame::kFromWorker:
      return OnWorkerMessage(token, frame.from_worker());
    default:
      WEFT_LOG(WARNING) << "agent " << agent << " sent a " << FrameName(frame) << " frame; dropped";
  }
}

void Coordinator::OnWorkerMessage(Token token, const control::FromWorker& from) {
  if (token != state_.token) {
    ++num_stale_;
    return;
  }
  const TimePoint now = Clock::now();
  const int rank = from.rank();
  const control::WorkerMessage& message = from.message();
  switch (message.body_case()) {
    case control::WorkerMessage::kHello:
      return OnWorkerHello(now, token, rank, message.hello(), &state_);
    case control::WorkerMessage::kProgress:
      return OnProgress(rank, message.progress());
    case control::WorkerMessage::kStep:
      return OnStepRecord(message.step());
    case control::WorkerMessage::kSaveRequest:
      return Deliver(committer_->OnSaveRequest(now, token, rank, message.save_request().step(),
                                               message.save_request().train_state()));
    case control::WorkerMessage::kShardPrepared: {
      const control::ShardPrepared& shard = message.shard_prepared();
      return Deliver(committer_->OnShardPrepared(now, token, rank, shard.step(), shard.attempt(),
                                                 shard.shard_info(), shard.error()));
    }
    case control::WorkerMessage::kEval:
      return recorder_->OnEval(token, message.eval());
    case control::WorkerMessage::kFinished:
      detector_.OnLeft(rank);
      return OnWorkerFinished(token, rank, message.finished().step(), message.finished().complete(),
                              &state_);
    case control::WorkerMessage::kFailed:
      return OnFailed(rank, message.failed());
    case control::WorkerMessage::kFlightDump:
      return inquiry_.OnDump(rank, message.flight_dump());
    case control::WorkerMessage::BODY_NOT_SET:
      return;
  }
}

void Coordinator::OnProgress(int rank, const control::Progress& progress) {
  if (rank < 0 || rank >= static_cast<int>(progress_.size())) return;
  const ProgressReport report = {FromWire(progress.phase()), progress.step(), progress.counter(),
                                 progress.operation()};
  progress_[static_cast<size_t>(rank)] = report;
  detector_.OnProgress(Clock::now(), rank, report);
  const bool running =
      report.phase != WorkerPhase::kStarting && report.phase != WorkerPhase::kLoading;
  OnWorkerProgress(state_.token, rank, report.step, running, &state_);
}

void Coordinator::OnStepRecord(const control::StepRecord& record) {
  const TimePoint now = Clock::now();
  last_step_ = record;
  recorder_->OnStep(state_.token, record);
  if (const auto recovery = recovery_.OnStep(now)) {
    Say(recovery->Sentence());
    journal::Record entry;
    entry.mutable_recovered()->set_generation(state_.token.generation);
    entry.mutable_recovered()->set_from_step(recovery->from_step);
    std::vector<EventField> fields = {{"from_step", recovery->from_step},
                                      {"seconds", recovery->seconds}};
    for (const auto& [phase, seconds] : recovery->phases) {
      journal::PhaseSeconds* item = entry.mutable_recovered()->add_phases();
      item->set_phase(phase);
      item->set_seconds(seconds);
      fields.emplace_back(phase + "_s", seconds);
    }
    Append(std::move(entry));
    recorder_->OnEvent(state_.token, "recovered", recovery->Sentence(), fields);
    recoveries_.push_back(*recovery);
  }
  console_.OnStep(now, record);
}

void Coordinator::OnFailed(int rank, const control::Failed& failed) {
  const auto code = static_cast<StatusCode>(failed.code());
  // What does not verify is never started from again: the next generation takes the checkpoint before it.
  const bool loading = rank >= 0 && rank < static_cast<int>(progress_.size()) &&
                       progress_[static_cast<size_t>(rank)].phase == WorkerPhase::kLoading;
  if (code == StatusCode::kCorruption && loading && !start_manifest_.empty()) {
    const Status marked = committer_->MarkBad(start_manifest_, failed.message());
    if (!marked.ok()) WEFT_LOG(ERROR) << "mark " << start_manifest_ << " as bad: " << marked;
    recorder_->OnEvent(state_.token, "checkpoint_bad",
                       start_manifest_ + " is not used any more: " + failed.message(),
                       {{"manifest", start_manifest_}});
  }
  OnWorkerFailed(Clock::now(), state_.token, rank, code, failed.message(), &state_);
}

void Coordinator::OnSignal(int signal) {
  const std::string name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (state_.stop_requested) {
    Say(name + " again: leaving at once, the last committed checkpoint stays");
    OnSecondSignal(&state_);
  } else {
    Say(name + ": the run saves at the next step and stops (a second signal ends it at once)");
    recorder_->OnEvent(state_.token, "stop_requested", "stopped by " + name);
    OnStopRequested(Clock::now(), name, &state_);
  }
  DecideAndAct();
}

void Coordinator::OnTick() {
  const TimePoint now = Clock::now();
  const bool paused = now - last_tick_ > kPaused;
  last_tick_ = now;
  if (paused) {
    // The frames that waited meanwhile are read before the next tick.
    for (const auto& [id, agent] : state_.agents) OnAgentHeard(now, id, &state_);
    return;
  }
  const bool waits = state_.phase == MembershipPhase::kWaitingForAgents;
  if (waits && now - state_.phase_since > kWaitIsNews && said_ != last_reason_) {
    said_ = last_reason_;
    Say(said_);
  }
  Deliver(committer_->OnTick(now));
  const bool lives = state_.phase == MembershipPhase::kSpawning ||
                     state_.phase == MembershipPhase::kStarting ||
                     state_.phase == MembershipPhase::kRunning;
  if (lives) LookForHangs(now);
  DecideAndAct();
}

void Coordinator::LookForHangs(TimePoint now) {
  const HangVerdict hang = detector_.Check(now);
  if (hang.rank < 0) return inquiry_.Reset(options_.membership.world_size);
  switch (inquiry_.OnVerdict(now)) {
    case HangInquiry::Next::kAsk: {
      control::CoordinatorMessage message;
      message.mutable_dump_recorder()->set_last(kOperationsOfARank);
      for (int rank = 0; rank < options_.membership.world_size; ++rank) SendToRank(rank, message);
      return;
    }
    case HangInquiry::Next::kWait:
      return;
    case HangInquiry::Next::kDecide:
      OnHang(now, state_.token, hang.rank, hang.verdict + ReportInquiry(hang.rank), &state_);
  }
}

// What the ranks did last goes to a file beside their logs; the verdict gets the operation of `rank` and the file's name.
std::string Coordinator::ReportInquiry(int rank) {
  const std::string path = JoinPath(
      directory_->log_dir(), "operations.g" + std::to_string(state_.token.generation) + ".log");
  const Status written = WriteFileDurably(PosixFileSystem(), path, inquiry_.Report());
  if (!written.ok()) WEFT_LOG(WARNING) << "the last operations: " << written;
  const std::string last = inquiry_.LastOperation(rank);
  return (last.empty() ? "" : "; its last operation: " + last) +
         (written.ok() ? "; the last operations of all ranks are in " + path : "");
}

void Coordinator::Deliver(const std::vector<LedgerMessage>& messages) {
  for (const LedgerMessage& message : messages) {
    control::CoordinatorMessage out;
    if (const auto* grant = std::get_if<SendGrant>(&message)) {
      out.mutable_save_grant()->set_step(grant->name.step);
      out.mutable_save_grant()->set_attempt(grant->name.attempt);
      out.mutable_save_grant()->set_directory(committer_->AttemptDirectory(grant->name));
      SendToRank(grant->rank, out);
    } else if (const auto* outcome = std::get_if<SendOutcome>(&message)) {
      out.mutable_save_outcome()->set_step(outcome->step);
      out.mutable_save_outcome()->set_attempt(outcome->attempt);
      out.mutable_save_outcome()->set_committed(outcome->committed);
      out.mutable_save_outcome()->set_reason(outcome->reason);
      SendToRank(outcome->rank, out);
      if (outcome->rank == 0) ReportOutcome(*outcome);
    }
  }
  if (committer_->superseded()) {
    end_ = {kExitFailed, "another coordinator has taken over " + directory_->path() +
                             ": this one leaves without another word"};
    loop_.Stop();
  }
}

void Coordinator::ReportOutcome(const SendOutcome& outcome) {
  if (outcome.committed) {
    OnCommit(state_.token, &state_);
    const std::vector<journal::SaveCommit> committed = committer_->Committed();
    const int64_t bytes = committed.empty() ? 0 : static_cast<int64_t>(committed.front().bytes());
    recorder_->OnEvent(state_.token, "checkpoint_committed",
                       "checkpoint of step " + std::to_string(outcome.step) + " committed",
                       {{"step", outcome.step}, {"bytes", bytes}});
    return;
  }
  const std::string text = "the checkpoint of step " + std::to_string(outcome.step) +
                           " failed, training goes on: " + outcome.reason;
  recorder_->OnEvent(state_.token, "checkpoint_failed", text, {{"step", outcome.step}});
  Say(text);
}

// ---------------------------------------------------------------- decisions

void Coordinator::DecideAndAct() {
  while (true) {
    const MembershipPhase before = state_.phase;
    const MembershipDecision decision = Decide(Clock::now(), state_, options_.membership);
    state_ = decision.next;
    if (before == MembershipPhase::kDraining && state_.phase != before) {
      recovery_.OnPhase(Clock::now(), "reap");
    }
    for (const MembershipAction& action : decision.actions) {
      Perform(action);
      if (!state_.fatal.empty() && decision.next.fatal.empty()) break;
    }
    if (!decision.reason.empty()) last_reason_ = decision.reason;
    if (before != state_.phase) {
      recorder_->OnEvent(state_.token, "state", last_reason_,
                         {{"phase", MembershipPhaseName(state_.phase)}});
    }
    // Membership gives agents up (silence, a drain that never ends): what they still say must not count.
    links_.DropAllBut([this](int agent) { return state_.agents.count(agent) > 0; });
    const bool fatal_now = !state_.fatal.empty() && decision.next.fatal.empty();
    if (!decision.changed && !fatal_now) return;
  }
}

void Coordinator::Perform(const MembershipAction& action) {
  switch (action.kind) {
    case MembershipActionKind::kActivate:
      return Activate();
    case MembershipActionKind::kSpawn:
      return Spawn(action);
    case MembershipActionKind::kStart:
      return StartWorkers();
    case MembershipActionKind::kStopWorkers: {
      control::CoordinatorMessage stop;
      stop.mutable_stop()->set_reason(action.reason);
      for (size_t rank = 0; rank < state_.workers.size(); ++rank) {
        SendToRank(static_cast<int>(rank), stop);
      }
      return;
    }
    case MembershipActionKind::kEndGeneration:
      return EndGeneration(action);
    case MembershipActionKind::kKillWorkers: {
      control::Frame frame;
      frame.mutable_kill_workers()->set_grace_s(action.grace_s);
      return SendToAgent(action.agent, std::move(frame));
    }
    case MembershipActionKind::kShutdown:
      return Shutdown(action);
  }
}

void Coordinator::Activate() {
  journal::Record record;
  record.mutable_generation_active()->set_generation(state_.token.generation);
  record.mutable_generation_active()->set_world_size(options_.membership.world_size);
  for (const WorkerState& worker : state_.workers) {
    record.mutable_generation_active()->add_hosts(state_.agents[worker.agent].host);
  }
  record.set_unix_ms(UnixMs());
  const Status status = journal_->Append(std::move(record));
  if (!status.ok()) {
    OnFatal("the journal cannot be written: " + status.message(), &state_);
    return;
  }
  const TimePoint now = Clock::now();
  detector_.Reset(now, options_.membership.world_size);
  inquiry_.Reset(options_.membership.world_size);
  progress_.assign(static_cast<size_t>(options_.membership.world_size), ProgressReport{});
  Deliver(committer_->OnGeneration(now, state_.token, options_.membership.world_size));
}

void Coordinator::Spawn(const MembershipAction& action) {
  control::Frame frame;
  for (const int rank : action.ranks) frame.mutable_spawn()->add_ranks(rank);
  frame.mutable_spawn()->set_log_dir(directory_->log_dir());
  SendToAgent(action.agent, std::move(frame));
}

void Coordinator::StartWorkers() {
  recovery_.OnPhase(Clock::now(), "respawn");
  const auto manifest = committer_->LatestManifest();
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
  start->set_run_dir(directory_->path());
  start->set_run_token(run_token_);
  start->set_checkpoint_dir(committer_->checkpoint_dir());
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
  if (devices->text != devices_text_) Say(devices_text_ = devices->text);
  recovery_.OnStart(from_step);
  console_.OnGenerationStart();
  recorder_->OnGenerationStart(state_.token, from_step);
}

std::vector<RankPlace> Coordinator::Places() const {
  std::vector<RankPlace> places;
  for (const WorkerState& worker : state_.workers)
    places.push_back({state_.agents.at(worker.agent).host, worker.said.get()});
  return places;
}

void Coordinator::EndGeneration(const MembershipAction& action) {
  const TimePoint now = Clock::now();
  Deliver(committer_->OnGenerationEnd(now, action.reason));
  if (!action.failure) return;
  const int rank = state_.end_cause ? state_.end_cause->rank : -1;
  const int64_t step = state_.end_cause ? state_.end_cause->step : 0;
  recovery_.OnLost(now, action.reason);
  Say(action.reason);
  journal::Record record;
  record.mutable_worker_lost()->set_generation(state_.token.generation);
  record.mutable_worker_lost()->set_rank(rank);
  record.mutable_worker_lost()->set_verdict(action.reason);
  Append(std::move(record));
  recorder_->OnEvent(state_.token, "worker_lost", action.reason, {{"rank", rank}, {"step", step}});
}

void Coordinator::Shutdown(const MembershipAction& action) {
  journal::Record record;
  record.mutable_run_finished()->set_exit_code(action.exit_code);
  record.mutable_run_finished()->set_reason(action.reason);
  record.mutable_run_finished()->set_step(last_step_.step());
  Append(std::move(record));
  recorder_->OnEvent(state_.token, "run_finished", action.reason,
                     {{"exit_code", action.exit_code}});
  console_.Finish();
  if (action.exit_code == kExitDone) {
    Say("done: " + action.reason + ", " + std::to_string(options_.recipe.steps()) + " steps" +
        (last_step_.step() > 0 ? ", final loss " + std::to_string(last_step_.loss()) : "") + "; " +
        directory_->path());
  }
  end_ = {action.exit_code, action.reason};
  for (const auto& [agent, unused] : state_.agents) {
    control::Frame frame;
    frame.mutable_shutdown()->set_exit_code(action.exit_code);
    frame.mutable_shutdown()->set_reason(action.reason);
    SendToAgent(agent, std::move(frame));
  }
  // Agents close when they have heard it; nobody waits longer than this for them.
  links_.StopListening();
  goodbye_ = loop_.After(kGoodbye, [this] { loop_.Stop(); });
  tick_ = loop_.Every(std::chrono::milliseconds(5), [this] {
    if (links_.num_agents() == 0) loop_.Stop();
  });
}

// Records that explain but decide nothing: a journal that cannot take them is no reason to stop.
void Coordinator::Append(journal::Record record) {
  record.set_unix_ms(UnixMs());
  const Status status = journal_->Append(std::move(record));
  if (!status.ok()) WEFT_LOG(WARNING) << "journal: " << status;
}

RunStatus Coordinator::Snapshot() const {
  const TimePoint now = Clock::now();
  const ThroughputWindow& window = console_.window();
  RunStatus status;
  status.name = options_.recipe.name();
  status.run_dir = directory_->path();
  status.pid = ::getpid();
  status.epoch = state_.token.epoch;
  status.generation = state_.token.generation;
  status.phase = MembershipPhaseName(state_.phase);
  status.reason = last_reason_;
  status.step = last_step_.step();
  status.steps = options_.recipe.steps();
  status.loss = last_step_.loss();
  status.images_per_s = window.SamplesPerSecond();
  status.data_wait = window.DataWait();
  status.data_bottleneck = window.DataBottleneck();
  status.peer_wait = window.PeerWait();
  status.save_wait = window.SaveWait();
  status.eta_s = static_cast<double>(status.steps - status.step) * window.StepSeconds();
  status.stale_frames = num_stale_ + committer_->ledger().num_stale();
  for (size_t rank = 0; rank < state_.workers.size(); ++rank) {
    const WorkerState& worker = state_.workers[rank];
    const ProgressReport report = rank < progress_.size() ? progress_[rank] : ProgressReport{};
    const auto agent = state_.agents.find(worker.agent);
    const int r = static_cast<int>(rank);
    status.members.push_back({r, agent == state_.agents.end() ? "" : agent->second.host, worker.pid,
                              WorkerPhaseName(report.phase), report.step, report.operation,
                              ToSeconds(detector_.StoodStill(now, r))});
  }
  for (const journal::SaveCommit& commit : committer_->Committed()) {
    status.checkpoints.push_back({commit.step(), commit.manifest(), commit.bytes(),
                                  static_cast<double>(UnixMs() - commit.unix_ms()) / 1000});
  }
  for (const Recovery& recovery : recoveries_) {
    status.recoveries.push_back({recovery.verdict, recovery.from_step, recovery.seconds});
  }
  return status;
}

// A run that is complete needs no coordinator.
StatusOr<bool> IsFinished(FileSystem* fs, const std::string& run_dir) {
  WEFT_ASSIGN_OR_RETURN(const JournalState state, ReplayJournal(fs, run_dir));
  return state.finished && state.finished_exit_code == kExitDone;
}

StatusOr<CoordinatorEnd> Serve(const CoordinatorOptions& options) {
  FileSystem* const fs = PosixFileSystem();
  WEFT_ASSIGN_OR_RETURN(const auto directory,
                        RunDirectory::Open(fs, options.run_dir, options.recipe));
  WEFT_ASSIGN_OR_RETURN(const bool finished, IsFinished(fs, directory->path()));
  if (finished) {
    std::printf("the run in %s is finished (%lld steps); nothing to do\n",
                directory->path().c_str(), static_cast<long long>(options.recipe.steps()));
    return CoordinatorEnd{kExitDone, ""};
  }
  WEFT_ASSIGN_OR_RETURN(const auto journal, Journal::Open(fs, directory->path()));
  CommitterOptions committer_options;
  committer_options.keep = options.recipe.run().keep_checkpoints();
  WEFT_ASSIGN_OR_RETURN(
      const auto committer,
      CheckpointCommitter::Create(fs, directory->path(), journal.get(), committer_options));
  RunRecorderOptions recorder_options;
  recorder_options.run_dir = directory->path();
  recorder_options.fp64 = options.recipe.precision() == FP64;
  WEFT_ASSIGN_OR_RETURN(const auto recorder, RunRecorder::Open(fs, recorder_options));
  Coordinator coordinator(options, directory.get(), journal.get(), committer.get(), recorder.get());
  WEFT_RETURN_IF_ERROR(coordinator.Listen());
  return coordinator.Run();
}

}  // namespace

CoordinatorOptions MakeCoordinatorOptions(const Recipe& recipe, const std::string& run_dir) {
  CoordinatorOptions options;
  options.recipe = recipe;
  options.run_dir = run_dir;
  options.membership.world_size =
      recipe.layout().dp() * recipe.layout().tp() * recipe.layout().pp();
  options.membership.max_fruitless_restarts = recipe.run().max_fruitless_restarts();
  options.detector.floor = FromSeconds(recipe.run().hang_floor_s());
  return options;
}

CoordinatorEnd RunCoordinator(const CoordinatorOptions& options) {
  auto end = Serve(options);
  if (end.ok()) return *std::move(end);
  const bool usage = end.status().code() == StatusCode::kInvalidArgument;
  return {usage ? 2 : kExitFailed, end.status().message()};
}

}  // namespace weft
