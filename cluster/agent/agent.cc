#include "cluster/agent/agent.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <utility>

#include "cluster/agent/loader_process.h"
#include "cluster/agent/worker_process.h"
#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/event_loop.h"
#include "cluster/rpc/frame_codec.h"
#include "cluster/rpc/frame_connection.h"

namespace weft {
namespace {

constexpr auto kConnectRetry = std::chrono::milliseconds(200);
constexpr auto kConnectAttempt = std::chrono::seconds(2);
// The dynamic loader leaves with it when a shared library is missing.
constexpr int kExitOfLoader = 127;

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

// Of a file: where the loader says what is missing.
std::string LastLine(const std::string& path) {
  std::ifstream file(path);
  std::string last = path + " may say why";
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

std::string RandomHex() {
  std::random_device random;
  std::string hex;
  for (int i = 0; i < 16; ++i) hex += "0123456789abcdef"[random() % 16];
  return hex;
}

class Agent {
 public:
  explicit Agent(const AgentOptions& options);
  AgentEnd Run();

 private:
  void Connect();
  void OnFrame(const control::Frame& frame);
  void OnWelcome(const control::Welcome& welcome);
  void OnSpawn(const control::Frame& frame);
  void OnKillWorkers(const control::Frame& frame);
  void OnToWorker(const control::Frame& frame);
  void OnHeartbeatTick();
  void OnWorkerFrame(int rank, const control::Frame& frame);
  void OnWorkerExit(int rank, ProcessExit exit);
  Status EnsureLoader(const control::Spawn& spawn);
  void SpawnRank(const control::Spawn& spawn, int index);
  void ReportFailure(int rank, const std::string& message);
  void ReportSpawnFailure(int rank, const Status& status);
  void InjectFaults(const control::WorkerMessage& message);
  void SignalWorkers(int signal);
  void MaybeReportGone();
  void NoteStart(const control::Start& start);
  void End(int exit_code, std::string reason);
  control::Frame NewFrame() const;

  const AgentOptions options_;
  const std::string worker_program_;
  const std::string loader_program_;
  const TimePoint connect_deadline_;
  EventLoop loop_;
  FaultInjector injector_;
  std::unique_ptr<FrameConnection> connection_;
  std::unique_ptr<EventLoop::Registration> retry_;
  std::unique_ptr<EventLoop::Registration> signals_;
  std::unique_ptr<EventLoop::Registration> heartbeat_;
  Duration heartbeat_period_{};
  Duration lease_{};
  TimePoint last_tick_{};
  TimePoint last_ack_{};
  uint64_t sequence_ = 0;

  // Outlives the workers of a generation; null: they read for themselves.
  std::unique_ptr<LoaderProcess> loader_;
  uint64_t num_spawns_ = 0;
  control::Token token_;  // of the workers that live or lived last
  std::map<int, std::unique_ptr<WorkerProcess>> workers_;
  std::vector<std::unique_ptr<WorkerProcess>> buried_;  // destroyed outside their own callbacks
  // KillWorkers is under way: WorkersGone goes out with this token.
  bool draining_ = false;
  control::Token drain_token_;
  std::unique_ptr<EventLoop::Registration> terminate_;
  std::unique_ptr<EventLoop::Registration> kill_;
  uint64_t num_stale_ = 0;
  // The workers are processes of this agent's mpirun, which can start no others in their place.
  bool one_generation_ = false;
  AgentEnd end_;
};

Agent::Agent(const AgentOptions& options)
    : options_(options),
      worker_program_(options.worker_program.empty() ? DefaultWorkerProgram()
                                                     : options.worker_program),
      loader_program_(options.loader_program.empty() ? DefaultLoaderProgram()
                                                     : options.loader_program),
      connect_deadline_(Clock::now() + options.connect_timeout),
      injector_(options.faults) {}

AgentEnd Agent::Run() {
  if (options_.handle_signals) {
    signals_ = loop_.OnSignals({SIGINT, SIGTERM}, [this](int signal) {
      End(1, std::string("stopped by ") + ::strsignal(signal));
    });
  }
  loop_.Post([this] { Connect(); });
  loop_.Run();
  workers_.clear();  // kills and reaps
  loader_.reset();
  return end_;
}

void Agent::Connect() {
  const TimePoint now = Clock::now();
  const auto fd =
      ConnectControl(options_.coordinator, std::min(connect_deadline_, now + kConnectAttempt));
  if (!fd.ok()) {
    const bool hopeless = fd.status().code() == StatusCode::kInvalidArgument;
    if (hopeless || now + kConnectRetry >= connect_deadline_) {
      End(1, "no coordinator: " + fd.status().message());
      return;
    }
    retry_ = loop_.After(kConnectRetry, [this] { Connect(); });
    return;
  }
  connection_ = std::make_unique<FrameConnection>(&loop_, *fd, "the coordinator");
  connection_->Start({.on_frame = [this](const control::Frame& frame) { OnFrame(frame); },
                      .on_closed = [this](const Status& why) { End(1, why.message()); }});
  control::Frame frame;
  control::AgentHello* hello = frame.mutable_agent_hello();
  hello->set_run_token(options_.run_token);
  hello->set_host(HostName());
  hello->set_pid(::getpid());
  hello->set_incarnation(RandomHex());
  hello->set_capacity(options_.capacity);
  connection_->Send(frame);
}

void Agent::OnFrame(const control::Frame& frame) {
  switch (frame.body_case()) {
    case control::Frame::kWelcome:
      return OnWelcome(frame.welcome());
    case control::Frame::kRefused:
      return End(1, "the coordinator refused this agent: " + frame.refused().reason());
    case control::Frame::kHeartbeatAck:
      last_ack_ = Clock::now();
      return;
    case control::Frame::kSpawn:
      return OnSpawn(frame);
    case control::Frame::kKillWorkers:
      return OnKillWorkers(frame);
    case control::Frame::kToWorker:
      return OnToWorker(frame);
    case control::Frame::kShutdown:
      return End(frame.shutdown().exit_code(), frame.shutdown().reason());
    default:
      WEFT_LOG(WARNING) << "the coordinator sent a " << FrameName(frame) << " frame; dropped";
  }
}

void Agent::OnWelcome(const control::Welcome& welcome) {
  heartbeat_period_ = FromSeconds(welcome.heartbeat_s());
  lease_ = FromSeconds(welcome.lease_s());
  last_tick_ = last_ack_ = Clock::now();
  heartbeat_ = loop_.Every(heartbeat_period_, [this] { OnHeartbeatTick(); });
}

void Agent::OnHeartbeatTick() {
  const TimePoint now = Clock::now();
  // A late tick means that this process was stopped: silence proves nothing then, and a coordinator that gave this agent up
  // has closed the connection.
  if (now - last_tick_ > 3 * heartbeat_period_) last_ack_ = now;
  last_tick_ = now;
  if (now - last_ack_ > lease_ * 7 / 10) {
    return End(1, "the coordinator has not answered for " +
                      std::to_string(ToSeconds(now - last_ack_)) +
                      " s: the workers are killed, so that others can take their place");
  }
  control::Frame frame = NewFrame();
  frame.mutable_heartbeat()->set_sequence(++sequence_);
  connection_->Send(frame);
}

void Agent::OnSpawn(const control::Frame& frame) {
  if (IsOlder(frame.token(), token_)) {
    ++num_stale_;
    return;
  }
  if (!workers_.empty()) return End(1, "the coordinator spawns workers while older ones live");
  token_ = frame.token();
  ++num_spawns_;
  Status ready = PosixFileSystem()->MakeDirs(frame.spawn().log_dir());
  if (ready.ok()) ready = EnsureLoader(frame.spawn());
  for (int i = 0; i < frame.spawn().ranks_size(); ++i) {
    if (ready.ok()) {
      SpawnRank(frame.spawn(), i);
    } else {
      ReportSpawnFailure(frame.spawn().ranks(i), ready);
    }
  }
}

Status Agent::EnsureLoader(const control::Spawn& spawn) {
  if (options_.loader_bytes == 0 || spawn.ranks().empty()) return OkStatus();
  if (loader_ != nullptr && loader_->regions() == spawn.ranks_size() && !loader_->given_up())
    return OkStatus();
  loader_.reset();
  LoaderProcessOptions options;
  options.program = loader_program_;
  options.log_path = JoinPath(spawn.log_dir(), "loader-" + std::to_string(spawn.ranks(0)) + ".log");
  options.regions = spawn.ranks_size();
  options.bytes = options_.loader_bytes;
  auto loader = LoaderProcess::Start(&loop_, options);
  if (!loader.ok()) return loader.status().WithContext("the loader process");
  loader_ = std::move(*loader);
  return OkStatus();
}

void Agent::SpawnRank(const control::Spawn& spawn, int index) {
  const int rank = spawn.ranks(index);
  WorkerProcessOptions options;
  options.program = worker_program_;
  options.data_host = options_.data_host;
  options.rank = rank;
  if (loader_ != nullptr) {
    const int count = spawn.ranks_size();
    options.loader = {loader_->memory_fd(), index, num_spawns_,
                      spawn.ranks(count - 1) - spawn.ranks(0) + 1 == count};
  }
  options.log_path = JoinPath(spawn.log_dir(), "rank-" + std::to_string(rank) + ".g" +
                                                   std::to_string(token_.generation()) + ".log");
  auto worker = WorkerProcess::Spawn(
      &loop_, options,
      {.on_frame = [this, rank](const control::Frame& frame) { OnWorkerFrame(rank, frame); },
       .on_exit = [this, rank](ProcessExit exit) { OnWorkerExit(rank, exit); }});
  if (worker.ok()) {
    workers_[rank] = std::move(*worker);
  } else {
    ReportSpawnFailure(rank, worker.status());
  }
}

// What cannot be started now cannot be started a second later either.
void Agent::ReportFailure(int rank, const std::string& message) {
  control::Frame frame = NewFrame();
  frame.mutable_from_worker()->set_rank(rank);
  auto* failed = frame.mutable_from_worker()->mutable_message()->mutable_failed();
  failed->set_code(static_cast<int>(StatusCode::kInvalidArgument));
  failed->set_message(message);
  connection_->Send(frame);
}

void Agent::ReportSpawnFailure(int rank, const Status& status) {
  ReportFailure(rank, "cannot start the worker: " + status.message());
  control::Frame exited = NewFrame();
  exited.mutable_worker_exited()->set_rank(rank);
  exited.mutable_worker_exited()->set_exit_code(127);
  connection_->Send(exited);
}

void Agent::OnToWorker(const control::Frame& frame) {
  const auto worker = workers_.find(frame.to_worker().rank());
  if (IsOlder(frame.token(), token_) || worker == workers_.end()) {
    ++num_stale_;
    return;
  }
  if (frame.to_worker().message().has_start()) NoteStart(frame.to_worker().message().start());
  worker->second->Send(frame);
}

void Agent::NoteStart(const control::Start& start) {
  Recipe recipe;
  one_generation_ = recipe.ParseFromString(start.recipe()) && recipe.layout().backend() == MPI;
}

void Agent::OnWorkerFrame(int rank, const control::Frame& frame) {
  if (!frame.has_from_worker()) return;
  // The socket pair belongs to one generation, so its token is known better here than by the worker.
  control::Frame relayed = frame;
  *relayed.mutable_token() = token_;
  relayed.mutable_from_worker()->set_rank(rank);
  connection_->Send(relayed);
  InjectFaults(frame.from_worker().message());
}

void Agent::InjectFaults(const control::WorkerMessage& message) {
  int64_t step = -1;
  if (message.has_step()) step = message.step().step();
  if (message.has_progress()) step = message.progress().step();
  if (step < 0) return;
  for (const FaultInjection& fault : injector_.OnStep(token_.generation(), step)) {
    const auto worker = workers_.find(fault.rank);
    if (worker == workers_.end()) continue;
    WEFT_LOG(WARNING) << "fault injection: " << ::strsignal(fault.signal) << " to rank "
                      << fault.rank << " (pid " << worker->second->pid() << ") at step " << step;
    worker->second->Signal(fault.signal);
  }
}

void Agent::OnWorkerExit(int rank, ProcessExit exit) {
  const auto worker = workers_.find(rank);
  WEFT_CHECK(worker != workers_.end());
  if (exit.exit_code == kExitOfLoader) {
    ReportFailure(rank, "the worker cannot start: " + LastLine(worker->second->log_path()));
  }
  control::Frame frame = NewFrame();
  control::WorkerExited* exited = frame.mutable_worker_exited();
  exited->set_rank(rank);
  exited->set_pid(worker->second->pid());
  exited->set_exit_code(exit.exit_code);
  exited->set_signal(exit.signal);
  connection_->Send(frame);
  buried_.push_back(std::move(worker->second));
  workers_.erase(worker);
  loop_.Post([this] { buried_.clear(); });
  MaybeReportGone();
}

void Agent::OnKillWorkers(const control::Frame& frame) {
  if (IsOlder(frame.token(), token_)) {
    ++num_stale_;
    return;
  }
  draining_ = true;
  drain_token_ = frame.token();
  const Duration grace = FromSeconds(frame.kill_workers().grace_s());
  if (grace <= Duration::zero()) {
    SignalWorkers(SIGKILL);
    // Its end tells the coordinator that the workers are gone, and it ends the launcher.
    if (one_generation_)
      return End(1, "this generation is over; over MPI the next one needs a new mpirun");
  } else {
    terminate_ = loop_.After(grace / 2, [this] { SignalWorkers(SIGTERM); });
    kill_ = loop_.After(grace, [this] { SignalWorkers(SIGKILL); });
  }
  MaybeReportGone();
}

void Agent::SignalWorkers(int signal) {
  for (const auto& [rank, worker] : workers_) worker->Signal(signal);
}

void Agent::MaybeReportGone() {
  if (!draining_ || !workers_.empty()) return;
  draining_ = false;
  terminate_.reset();
  kill_.reset();
  control::Frame frame;
  *frame.mutable_token() = drain_token_;
  frame.mutable_workers_gone();
  connection_->Send(frame);
}

void Agent::End(int exit_code, std::string reason) {
  end_ = {exit_code, std::move(reason)};
  SignalWorkers(SIGKILL);
  loop_.Stop();
}

control::Frame Agent::NewFrame() const {
  control::Frame frame;
  *frame.mutable_token() = token_;
  return frame;
}

}  // namespace

std::string DefaultWorkerProgram() { return JoinPath(ParentPath(OwnProgram()), "weft-worker"); }

std::string DefaultLoaderProgram() { return JoinPath(ParentPath(DefaultWorkerProgram()), "weft"); }

AgentEnd RunAgent(const AgentOptions& options) {
  Agent agent(options);
  return agent.Run();
}

}  // namespace weft
