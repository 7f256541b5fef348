#include "coordinator/service.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "cluster/rpc/event_loop.h"
#include "coordinator/agent_links.h"
#include "coordinator/checkpoint_committer.h"
#include "coordinator/journal.h"
#include "coordinator/run_chronicle.h"
#include "coordinator/run_directory.h"
#include "coordinator/run_lifecycle.h"
#include "coordinator/run_recorder.h"
#include "coordinator/run_status.h"

namespace weft {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
// A tick that is this late means that this process was stopped (Ctrl-Z, a laptop's lid): the silence of others proves
// nothing then.
constexpr auto kPaused = std::chrono::seconds(2);
constexpr auto kGoodbye = std::chrono::seconds(2);

class Coordinator {
 public:
  Coordinator(const CoordinatorOptions& options, RunDirectory* directory, Journal* journal,
              CheckpointCommitter* committer, RunChronicle* chronicle);
  Status Listen();
  CoordinatorEnd Run();

 private:
  AgentLinks::Callbacks LinkCallbacks();
  RunParts Parts(Journal* journal, CheckpointCommitter* committer);
  void OnTick();
  // After each event.
  void Follow();
  void SayGoodbye();

  const CoordinatorOptions& options_;
  RunDirectory* const directory_;
  RunChronicle* const chronicle_;
  const std::string run_token_;

  EventLoop loop_;
  AgentLinks links_;
  RunLifecycle life_;
  std::unique_ptr<EventLoop::Registration> tick_;
  std::unique_ptr<EventLoop::Registration> signals_;
  std::unique_ptr<EventLoop::Registration> goodbye_;
  TimePoint last_tick_{};
};

Coordinator::Coordinator(const CoordinatorOptions& options, RunDirectory* directory,
                         Journal* journal, CheckpointCommitter* committer, RunChronicle* chronicle)
    : options_(options),
      directory_(directory),
      chronicle_(chronicle),
      run_token_(NewRunToken()),
      links_(&loop_, run_token_,
             "take the one in " + directory->path() +
                 "/coord/endpoint (it changes with every start of the coordinator)",
             LinkCallbacks()),
      life_(Clock::now(), options, Parts(journal, committer)) {}

RunParts Coordinator::Parts(Journal* journal, CheckpointCommitter* committer) {
  RunParts parts;
  parts.fs = PosixFileSystem();
  parts.run_dir = directory_->path();
  parts.log_dir = directory_->log_dir();
  parts.run_token = run_token_;
  parts.journal = journal;
  parts.committer = committer;
  parts.chronicle = chronicle_;
  parts.send = [this](int agent, const control::Frame& frame) { links_.Send(agent, frame); };
  return parts;
}

Status Coordinator::Listen() {
  WEFT_RETURN_IF_ERROR(links_.Listen(options_.bind));
  return directory_->WriteEndpoint(links_.endpoint(), run_token_);
}

CoordinatorEnd Coordinator::Run() {
  signals_ = loop_.OnSignals({SIGINT, SIGTERM}, [this](int signal) {
    life_.OnSignal(Clock::now(), signal == SIGINT ? "SIGINT" : "SIGTERM");
    Follow();
  });
  last_tick_ = Clock::now();
  tick_ = loop_.Every(kTick, [this] { OnTick(); });
  life_.Begin(Clock::now());
  if (options_.on_listening) options_.on_listening(links_.endpoint(), run_token_);
  loop_.Run();
  chronicle_->Finish();
  directory_->RemoveEndpoint();
  return life_.end();
}

AgentLinks::Callbacks Coordinator::LinkCallbacks() {
  AgentLinks::Callbacks callbacks;
  callbacks.on_hello = [this](const control::AgentHello& hello) {
    return life_.OnHello(Clock::now(), hello);
  };
  callbacks.on_joined = [this](int agent) {
    life_.OnJoined(Clock::now(), agent);
    Follow();
  };
  callbacks.on_frame = [this](int agent, const control::Frame& frame) {
    life_.OnFrame(Clock::now(), agent, frame);
    Follow();
  };
  callbacks.on_lost = [this](int agent, const Status& why) {
    life_.OnLost(Clock::now(), agent, why);
    Follow();
  };
  callbacks.status_json = [this] { return ToJson(life_.Snapshot(Clock::now())); };
  return callbacks;
}

void Coordinator::OnTick() {
  const TimePoint now = Clock::now();
  const bool paused = now - last_tick_ > kPaused;
  last_tick_ = now;
  // The frames that waited meanwhile are read before the next tick.
  if (paused) return life_.OnPaused(now);
  life_.OnTick(now);
  Follow();
}

void Coordinator::Follow() {
  links_.DropAllBut([this](int agent) { return life_.HasAgent(agent); });
  if (life_.left()) return loop_.Stop();
  if (life_.over() && goodbye_ == nullptr) SayGoodbye();
}

// Agents close when they have heard of the end; nobody waits longer than this for them.
void Coordinator::SayGoodbye() {
  links_.StopListening();
  goodbye_ = loop_.After(kGoodbye, [this] { loop_.Stop(); });
  tick_ = loop_.Every(std::chrono::milliseconds(5), [this] {
    if (links_.num_agents() == 0) loop_.Stop();
  });
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
  RunChronicle chronicle(stdout, ::isatty(STDOUT_FILENO) == 1, directory->path(),
                         options.recipe.steps(), journal.get(), recorder.get());
  Coordinator coordinator(options, directory.get(), journal.get(), committer.get(), &chronicle);
  WEFT_RETURN_IF_ERROR(coordinator.Listen());
  return coordinator.Run();
}

}  // namespace

CoordinatorEnd RunCoordinator(const CoordinatorOptions& options) {
  auto end = Serve(options);
  if (end.ok()) return *std::move(end);
  const bool usage = end.status().code() == StatusCode::kInvalidArgument;
  return {usage ? 2 : kExitFailed, end.status().message()};
}

}  // namespace weft
