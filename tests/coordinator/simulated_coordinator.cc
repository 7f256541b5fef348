// The coordinator of a simulation: membership, detector and ledger over one journal, and the workers' shards that the ledger
// asks for.
#include <gtest/gtest.h>

#include <utility>
#include <variant>

#include "coordinator/membership_events.h"
#include "tests/coordinator/simulation.h"
#include "tests/support/checkpoint_world.h"

namespace weft::testing {
namespace {

control::WorkerHello Hello(int64_t pid, const std::string& endpoint) {
  control::WorkerHello hello;
  hello.set_pid(pid);
  hello.set_endpoint(endpoint);
  return hello;
}

}  // namespace

void Simulation::StartCoordinator() {
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
void Simulation::CheckDisk() {
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

void Simulation::Tick() {
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
bool Simulation::Perform(const std::vector<MembershipAction>& actions) {
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

bool Simulation::Activate() {
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

SimAgent* Simulation::FindAgent(int id) {
  for (SimAgent& agent : agents_) {
    if (agent.id == id && !agent.dead) return &agent;
  }
  return nullptr;
}

void Simulation::Spawn(const MembershipAction& action) {
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

void Simulation::Start() {
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

void Simulation::Kill(int id, Token token) {
  SimAgent* agent = FindAgent(id);
  if (agent == nullptr || agent->silent) return;
  agent->workers.clear();
  Send([this, id, token] { OnWorkersGone(token, id, &state_); });
}

void Simulation::Handle(const std::vector<LedgerMessage>& messages) {
  for (const LedgerMessage& message : messages) {
    ASSERT_TRUE(active_) << "a message without an active generation";
    if (const auto* grant = std::get_if<SendGrant>(&message)) {
      WriteShard(*grant);
    } else {
      Outcome(std::get<SendOutcome>(message));
    }
  }
}

SimWorker* Simulation::FindWorker(Token token, int rank) {
  for (SimAgent& agent : agents_) {
    const auto it = agent.workers.find(rank);
    if (it != agent.workers.end() && it->second.token == token) return &it->second;
  }
  return nullptr;
}

void Simulation::WriteShard(const SendGrant& grant) {
  EXPECT_EQ(grant.name.epoch, active_->epoch);
  EXPECT_EQ(grant.name.generation, active_->generation);
  const SimWorker* worker = FindWorker(*active_, grant.rank);
  if (worker == nullptr || worker->frozen) return;
  const auto shard = WriteTinyShard(&fs_, "run/ckpt", grant.name, grant.rank, kWorldSize);
  const Token token = *active_;
  Send([this, token, grant, shard] {
    Handle(committer_->OnShardPrepared(now_, token, grant.rank, grant.name.step, grant.name.attempt,
                                       shard.ok() ? shard->SerializeAsString() : "",
                                       shard.status().ToString()));
  });
  // Now and then a message arrives twice, or again much later.
  if (Pick(10) == 0 && shard.ok()) {
    Send([this, token, grant, shard] {
      Handle(committer_->OnShardPrepared(now_, token, grant.rank, grant.name.step,
                                         grant.name.attempt, shard->SerializeAsString(), ""));
    });
  }
}

void Simulation::Outcome(const SendOutcome& outcome) {
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

}  // namespace weft::testing
