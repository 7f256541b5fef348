// Membership and ledger as one machine, under a seeded storm: workers die, fail and hang, agents vanish, come back and fall
// silent, the coordinator is killed with its unsynced writes, disks fail, messages arrive late or from the dead. One
// thread, stepped time, no sleeping: a seed is a test case.
//
// What must hold at every moment:
//   * tokens rise and are never used twice; one generation is active at most;
//   * a checkpoint is committed by ranks of the active token only;
//   * what was announced as committed is there after any crash, and loads to the last element;
//   * when the storm is over, the run ends: complete, or given up after its crash loop.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "coordinator/checkpoint_committer.h"
#include "coordinator/failure_detector.h"
#include "coordinator/journal.h"
#include "coordinator/membership.h"
#include "coordinator/membership_events.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

constexpr int kWorldSize = 3;
constexpr int64_t kSteps = 100;
constexpr int64_t kSaveEvery = 5;
constexpr double kTick = 0.05;
constexpr double kStorm = 60;      // seconds in which faults happen
constexpr double kPatience = 400;  // and by when the run must be over

control::WorkerHello Hello(int64_t pid, const std::string& endpoint) {
  control::WorkerHello hello;
  hello.set_pid(pid);
  hello.set_endpoint(endpoint);
  return hello;
}

struct SimWorker {
  Token token;
  int rank = 0;
  bool started = false;
  bool frozen = false;  // SIGSTOP: alive, says nothing
  bool saving = false;
  bool finished = false;
  bool stop = false;
  int64_t step = 0;
  TimePoint next{};
};

struct SimAgent {
  int id = -1;  // the coordinator's name for it; -1: not connected
  bool silent = false;
  bool dead = false;
  int capacity = 2;
  TimePoint back_at{};
  std::map<int, SimWorker> workers;  // by rank
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed), agents_(2) {
    options_.world_size = kWorldSize;
    options_.lease = FromSeconds(2);
    options_.startup = FromSeconds(10);
    options_.drain = FromSeconds(4);
    options_.agent_wait = FromSeconds(60);
    options_.max_fruitless_restarts = 6;
    detector_options_.floor = FromSeconds(3);
    detector_options_.first_steps = detector_options_.starting = detector_options_.loading =
        detector_options_.saving = FromSeconds(6);
    EXPECT_TRUE(fs_.MakeDirs("run").ok() && fs_.SyncDir(".").ok());
    StartCoordinator();
  }

  void Run() {
    while (!over_ && ToSeconds(now_ - begin_) < kPatience && !::testing::Test::HasFailure()) {
      now_ += FromSeconds(kTick);
      if (ToSeconds(now_ - begin_) < kStorm) Storm();
      Deliver();
      MoveAgents();
      MoveWorkers();
      Tick();
    }
    EXPECT_TRUE(over_) << "the run never ends; " << MembershipPhaseName(state_.phase);
    if (std::getenv("WEFT_SIMULATION_SEEDS") != nullptr)
      std::printf("exit %d: %s\n", exit_code_, exit_reason_.c_str());
    if (over_) {
      EXPECT_TRUE(exit_code_ == kExitDone || exit_code_ == kExitDoNotRequeue ||
                  exit_code_ == kExitFailed)
          << exit_code_ << exit_reason_;
    }
  }

  int num_generations() const { return static_cast<int>(tokens_.size()); }
  int num_commits() const { return static_cast<int>(announced_.size()); }
  int num_coordinators() const { return num_coordinators_; }
  int exit_code() const { return exit_code_; }

 private:
  bool Chance(double per_second) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < per_second * kTick;
  }
  int Pick(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  // An event that reaches the coordinator after a random time; lost if the coordinator dies before.
  void Send(std::function<void()> event) {
    const TimePoint at = now_ + FromSeconds(0.3 * static_cast<double>(Pick(100)) / 100);
    mail_.emplace(at, std::move(event));
  }
  void Deliver() {
    while (!mail_.empty() && mail_.begin()->first <= now_) {
      const auto event = std::move(mail_.begin()->second);
      mail_.erase(mail_.begin());
      event();
    }
  }

  // ---- the coordinator

  void StartCoordinator() {
    mail_.clear();
    ++num_coordinators_;
    auto journal = Journal::Open(&fs_, "run");
    ASSERT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);
    auto committer =
        CheckpointCommitter::Create(&fs_, "run", journal_.get(), {.ledger = {}, .keep = 2});
    ASSERT_TRUE(committer.ok()) << committer.status();
    committer_ = *std::move(committer);
    state_ = InitialMembership(now_, journal_->epoch());
    detector_ = FailureDetector(detector_options_);
    detector_.Reset(now_, 0);
    active_.reset();
    CheckDisk();
  }

  // The announced commits are there, and all that is committed loads.
  void CheckDisk() {
    const auto committed = committer_->Committed();
    if (!announced_.empty()) {
      bool found = false;
      for (const auto& commit : committed) {
        found = found || commit.manifest() == ManifestFileName(announced_.back());
      }
      EXPECT_TRUE(found) << ManifestFileName(announced_.back()) << " was announced and is lost";
    }
    for (const auto& commit : committed) {
      const auto manifest = ReadManifest(&fs_, JoinPath("run/ckpt", commit.manifest()));
      ASSERT_TRUE(manifest.ok()) << manifest.status();
      const Status loads = CheckTinyCheckpoint(&fs_, "run/ckpt", *manifest);
      ASSERT_TRUE(loads.ok()) << loads;
    }
  }

  void Tick() {
    if (over_) return;
    Handle(committer_->OnTick(now_));
    if (active_ && state_.phase != MembershipPhase::kDraining) {
      const HangVerdict hang = detector_.Check(now_);
      if (hang.rank >= 0) OnHang(now_, *active_, hang.rank, hang.verdict, &state_);
    }
    for (int i = 0; i < 50; ++i) {
      const MembershipDecision decision = Decide(now_, state_, options_);
      state_ = decision.next;
      if (!Perform(decision.actions) || !decision.changed) break;
    }
  }

  // False: do not look at the rest of the decision.
  bool Perform(const std::vector<MembershipAction>& actions) {
    for (const MembershipAction& action : actions) {
      switch (action.kind) {
        case MembershipActionKind::kActivate:
          if (!Activate()) return true;
          break;
        case MembershipActionKind::kSpawn:
          Spawn(action);
          break;
        case MembershipActionKind::kStart:
          Start();
          break;
        case MembershipActionKind::kStopWorkers:
          break;
        case MembershipActionKind::kEndGeneration:
          Handle(committer_->OnGenerationEnd(now_, action.reason));
          active_.reset();
          break;
        case MembershipActionKind::kKillWorkers:
          Kill(action.agent, state_.token);
          break;
        case MembershipActionKind::kShutdown:
          over_ = true;
          exit_code_ = action.exit_code;
          exit_reason_ = action.reason;
          return false;
      }
    }
    return true;
  }

  bool Activate() {
    EXPECT_FALSE(active_) << "two generations at once";
    journal::Record record;
    record.mutable_generation_active()->set_generation(state_.token.generation);
    const Status status = journal_->Append(std::move(record));
    if (!status.ok()) {
      OnFatal(status.ToString(), &state_);
      return false;
    }
    if (!tokens_.empty()) {
      EXPECT_GT(state_.token, *tokens_.rbegin());
    }
    EXPECT_TRUE(tokens_.insert(state_.token).second) << "token used twice";
    active_ = state_.token;
    detector_.Reset(now_, kWorldSize);
    Handle(committer_->OnGeneration(now_, state_.token, kWorldSize));
    return true;
  }

  SimAgent* FindAgent(int id) {
    for (SimAgent& agent : agents_) {
      if (agent.id == id && !agent.dead) return &agent;
    }
    return nullptr;
  }

  void Spawn(const MembershipAction& action) {
    SimAgent* agent = FindAgent(action.agent);
    if (agent == nullptr) return;
    EXPECT_TRUE(agent->workers.empty()) << "spawned beside workers that still live";
    for (const int rank : action.ranks) {
      SimWorker worker;
      worker.token = state_.token;
      worker.rank = rank;
      agent->workers[rank] = worker;
      const Token token = state_.token;
      Send([this, token, rank] { OnWorkerHello(now_, token, rank, Hello(1, "h"), &state_); });
    }
  }

  void Start() {
    const auto manifest = committer_->LatestManifest();
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    const int64_t from = *manifest ? (*manifest)->state().step() : 0;
    if (*manifest) {
      ASSERT_TRUE(CheckTinyCheckpoint(&fs_, "run/ckpt", **manifest).ok());
    }
    for (SimAgent& agent : agents_) {
      for (auto& [rank, worker] : agent.workers) {
        if (worker.token != state_.token) continue;
        worker.started = true;
        worker.step = from;
        worker.next = now_ + FromSeconds(0.2);
      }
    }
  }

  void Kill(int id, Token token) {
    SimAgent* agent = FindAgent(id);
    if (agent == nullptr || agent->silent) return;
    agent->workers.clear();
    Send([this, id, token] { OnWorkersGone(token, id, &state_); });
  }

  void Handle(const std::vector<LedgerMessage>& messages) {
    for (const LedgerMessage& message : messages) {
      ASSERT_TRUE(active_) << "a message without an active generation";
      if (const auto* grant = std::get_if<SendGrant>(&message)) {
        WriteShard(*grant);
      } else {
        Outcome(std::get<SendOutcome>(message));
      }
    }
  }

  SimWorker* FindWorker(Token token, int rank) {
    for (SimAgent& agent : agents_) {
      const auto it = agent.workers.find(rank);
      if (it != agent.workers.end() && it->second.token == token) return &it->second;
    }
    return nullptr;
  }

  void WriteShard(const SendGrant& grant) {
    EXPECT_EQ(grant.name.epoch, active_->epoch);
    EXPECT_EQ(grant.name.generation, active_->generation);
    const SimWorker* worker = FindWorker(*active_, grant.rank);
    if (worker == nullptr || worker->frozen) return;
    const auto shard = WriteTinyShard(&fs_, "run/ckpt", grant.name, grant.rank, kWorldSize);
    const Token token = *active_;
    Send([this, token, grant, shard] {
      Handle(committer_->OnShardPrepared(
          now_, token, grant.rank, grant.name.step, grant.name.attempt,
          shard.ok() ? shard->SerializeAsString() : "", shard.status().ToString()));
    });
    // Now and then a message arrives twice, or again much later.
    if (Pick(10) == 0 && shard.ok()) {
      Send([this, token, grant, shard] {
        Handle(committer_->OnShardPrepared(now_, token, grant.rank, grant.name.step,
                                           grant.name.attempt, shard->SerializeAsString(), ""));
      });
    }
  }

  void Outcome(const SendOutcome& outcome) {
    if (outcome.committed) {
      const CheckpointName name = {outcome.step, active_->epoch, active_->generation,
                                   outcome.attempt};
      if (announced_.empty() || !(announced_.back() == name)) announced_.push_back(name);
      OnCommit(*active_, &state_);
    }
    SimWorker* worker = FindWorker(*active_, outcome.rank);
    if (worker == nullptr) return;
    worker->saving = false;
    worker->next = now_ + FromSeconds(0.1);
  }

  // ---- the machines

  void MoveAgents() {
    for (SimAgent& agent : agents_) {
      if (agent.id < 0 && now_ >= agent.back_at) {
        // A new start: nothing of the old one is left.
        agent.workers.clear();
        agent.dead = agent.silent = false;
        agent.id = OnAgentHello(now_, "host", 1, "inc", agent.capacity, &state_);
      } else if (agent.id >= 0 && state_.agents.count(agent.id) == 0) {
        // The coordinator has given it up: it will find its connection closed.
        agent.id = -1;
        agent.back_at = now_ + FromSeconds(1 + Pick(5));
      } else if (!agent.silent) {
        OnAgentHeard(now_, agent.id, &state_);
      }
    }
  }

  void MoveWorkers() {
    // A rank steps only if all others are there: the step is one collective.
    int alive = 0;
    for (SimAgent& agent : agents_) {
      for (auto& [rank, worker] : agent.workers) {
        if (active_ && worker.token == *active_ && worker.started && !worker.frozen) ++alive;
      }
    }
    for (SimAgent& agent : agents_) {
      if (agent.silent) continue;
      for (auto& [rank, worker] : agent.workers) {
        if (!worker.frozen) MoveWorker(&worker, alive == kWorldSize);
      }
    }
  }

  void MoveWorker(SimWorker* worker, bool all_there) {
    const Token token = worker->token;
    const int rank = worker->rank;
    if (worker->started && !worker->saving && !worker->finished && all_there &&
        now_ >= worker->next) {
      if (worker->step >= kSteps) {
        worker->finished = true;
        Send([this, token, rank] { OnWorkerFinished(token, rank, kSteps, true, &state_); });
      } else {
        ++worker->step;
        worker->next = now_ + FromSeconds(0.2);
        if (worker->step % kSaveEvery == 0) RequestSave(worker);
      }
    }
    const ProgressReport report = {worker->finished  ? WorkerPhase::kDone
                                   : worker->saving  ? WorkerPhase::kSaving
                                   : worker->started ? WorkerPhase::kTraining
                                                     : WorkerPhase::kStarting,
                                   worker->step, static_cast<uint64_t>(worker->step), ""};
    const bool running = worker->started;
    Send([this, token, rank, report, running] {
      if (!active_ || token != *active_) return;
      detector_.OnProgress(now_, rank, report);
      OnWorkerProgress(token, rank, report.step, running, &state_);
    });
  }

  void RequestSave(SimWorker* worker) {
    worker->saving = true;
    const Token token = worker->token;
    const int rank = worker->rank;
    const int64_t step = worker->step;
    Send([this, token, rank, step] {
      Handle(
          committer_->OnSaveRequest(now_, token, rank, step, TinyState(step).SerializeAsString()));
    });
  }

  // ---- what goes wrong

  void Storm() {
    if (Chance(0.15)) KillWorker();
    if (Chance(0.05)) FailWorker();
    if (Chance(0.05)) FreezeWorker();
    if (Chance(0.05)) LoseAgent();
    if (Chance(0.03)) agents_[static_cast<size_t>(Pick(2))].silent = true;
    if (Chance(0.10))
      fs_.FailCall(1 + Pick(40),
                   Pick(4) == 0 ? Unavailable("I/O error") : ResourceExhausted("full"));
    if (Chance(0.05)) KillCoordinator();
  }

  SimWorker* AnyWorker(SimAgent** owner) {
    SimAgent& agent = agents_[static_cast<size_t>(Pick(2))];
    if (agent.workers.empty() || agent.silent) return nullptr;
    *owner = &agent;
    auto it = agent.workers.begin();
    std::advance(it, Pick(static_cast<int>(agent.workers.size())));
    return &it->second;
  }

  void KillWorker() {
    SimAgent* agent = nullptr;
    const SimWorker* worker = AnyWorker(&agent);
    if (worker == nullptr || worker->finished) return;
    const Token token = worker->token;
    const int rank = worker->rank;
    agent->workers.erase(rank);
    Send([this, token, rank] { OnWorkerExited(now_, token, rank, 0, 9, &state_); });
    for (int peer = 0; peer < kWorldSize; ++peer) {
      if (peer == rank || FindWorker(token, peer) == nullptr) continue;
      Send([this, token, peer] {
        OnWorkerFailed(now_, token, peer, StatusCode::kUnavailable, "peer lost", &state_);
      });
    }
  }
  void FailWorker() {
    SimAgent* agent = nullptr;
    const SimWorker* worker = AnyWorker(&agent);
    if (worker == nullptr || worker->finished) return;
    const Token token = worker->token;
    const int rank = worker->rank;
    Send([this, token, rank] {
      OnWorkerFailed(now_, token, rank, StatusCode::kInternal, "nan", &state_);
    });
  }
  void FreezeWorker() {
    SimAgent* agent = nullptr;
    SimWorker* worker = AnyWorker(&agent);
    if (worker != nullptr) worker->frozen = true;
  }
  void LoseAgent() {
    SimAgent& agent = agents_[static_cast<size_t>(Pick(2))];
    if (agent.id < 0) return;
    OnAgentLost(now_, agent.id, "closed its connection", &state_);
    agent.id = -1;
    // Its workers may live on for a while, with a token that will be stale.
    agent.back_at = now_ + FromSeconds(Pick(8));
  }
  void KillCoordinator() {
    const int mode = Pick(3);
    fs_.Crash(mode == 0   ? CrashMode::kProcessDied
              : mode == 1 ? CrashMode::kPowerCut
                          : CrashMode::kRandomRemains,
              random_());
    for (SimAgent& agent : agents_) {
      agent.id = -1;
      agent.back_at = now_ + FromSeconds(Pick(3));
    }
    StartCoordinator();
  }

  std::mt19937_64 random_;
  FaultInjectingFileSystem fs_;
  TimePoint begin_ = TimePoint() + FromSeconds(1000);
  TimePoint now_ = begin_;
  std::multimap<TimePoint, std::function<void()>> mail_;
  std::vector<SimAgent> agents_;

  MembershipOptions options_;
  FailureDetectorOptions detector_options_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointCommitter> committer_;
  MembershipState state_;
  FailureDetector detector_{FailureDetectorOptions{}};
  std::optional<Token> active_;
  std::set<Token> tokens_;
  std::vector<CheckpointName> announced_;
  int num_coordinators_ = 0;
  bool over_ = false;
  int exit_code_ = -1;
  std::string exit_reason_;
};

TEST(SimulationTest, SurvivesEveryStorm) {
  const char* wanted = std::getenv("WEFT_SIMULATION_SEEDS");
  const int seeds = wanted != nullptr ? std::atoi(wanted) : 300;
  int generations = 0;
  int commits = 0;
  int coordinators = 0;
  std::map<int, int> ends;
  for (int seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(static_cast<uint64_t>(seed));
    simulation.Run();
    if (HasFailure()) return;
    generations += simulation.num_generations();
    commits += simulation.num_commits();
    coordinators += simulation.num_coordinators();
    ++ends[simulation.exit_code()];
  }
  std::printf(
      "%d seeds: %d generations, %d commits, %d coordinators; complete %d, given up %d, failed "
      "%d\n",
      seeds, generations, commits, coordinators, ends[kExitDone], ends[kExitDoNotRequeue],
      ends[kExitFailed]);
  EXPECT_GT(ends[kExitDone], seeds / 2) << "the storm is too strong to say much";
}

}  // namespace
}  // namespace weft
