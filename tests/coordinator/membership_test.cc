#include "coordinator/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/membership_events.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using Kind = MembershipActionKind;
using Phase = MembershipPhase;

control::WorkerHello Hello(int64_t pid, const std::string& endpoint) {
  control::WorkerHello hello;
  hello.set_pid(pid);
  hello.set_endpoint(endpoint);
  return hello;
}

// A run of four ranks whose time the test moves by hand.
class MembershipTest : public ::testing::Test {
 protected:
  MembershipTest() {
    options_.world_size = 4;
    options_.max_fruitless_restarts = 3;
    state_ = InitialMembership(now_, /*epoch=*/7);
  }

  void Advance(double seconds) { now_ += FromSeconds(seconds); }
  // Decides until nothing moves; returns all actions, in order.
  std::vector<MembershipAction> Step() {
    std::vector<MembershipAction> actions;
    for (int i = 0; i < 20; ++i) {
      MembershipDecision decision = Decide(now_, state_, options_);
      state_ = decision.next;
      reason_ = decision.reason;
      for (MembershipAction& action : decision.actions) actions.push_back(std::move(action));
      if (!decision.changed) return actions;
    }
    ADD_FAILURE() << "the decision never comes to rest";
    return actions;
  }
  static std::vector<Kind> Kinds(const std::vector<MembershipAction>& actions) {
    std::vector<Kind> kinds;
    for (const MembershipAction& action : actions) kinds.push_back(action.kind);
    return kinds;
  }
  static const MembershipAction* FindAction(const std::vector<MembershipAction>& actions,
                                            Kind kind) {
    for (const MembershipAction& action : actions) {
      if (action.kind == kind) return &action;
    }
    return nullptr;
  }
  int Agent(int capacity, const std::string& host = "n1") {
    return OnAgentHello(now_, host, 100, "inc", capacity, &state_);
  }
  void AllHeard() {
    for (const auto& [id, agent] : std::map(state_.agents)) OnAgentHeard(now_, id, &state_);
  }
  void HelloFromAll() {
    for (int rank = 0; rank < 4; ++rank) {
      OnWorkerHello(now_, state_.token, rank, Hello(1000 + rank, "h:" + std::to_string(rank)),
                    &state_);
    }
  }
  void AllTraining(int64_t step) {
    for (int rank = 0; rank < 4; ++rank) OnWorkerProgress(state_.token, rank, step, true, &state_);
  }
  void GoneEverywhere() {
    for (const auto& [id, agent] : std::map(state_.agents))
      OnWorkersGone(state_.token, id, &state_);
  }
  // To a generation that trains.
  void Run() {
    if (state_.agents.empty()) Agent(4);
    Step();
    HelloFromAll();
    Step();
    AllTraining(5);
    Step();
    ASSERT_EQ(state_.phase, Phase::kRunning);
  }

  TimePoint now_ = TimePoint() + FromSeconds(1000);
  MembershipOptions options_;
  MembershipState state_;
  std::string reason_;
};

TEST_F(MembershipTest, WaitsForEnoughCapacity) {
  EXPECT_TRUE(Step().empty());
  Agent(3);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(reason_, "waiting for agents: room for 3 of 4 ranks");
  Agent(2, "n2");
  const auto actions = Step();
  ASSERT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kActivate, Kind::kSpawn, Kind::kSpawn}));
  EXPECT_EQ(actions[1].ranks, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(actions[2].ranks, (std::vector<int>{3}));
  EXPECT_EQ(state_.token, (Token{7, 1}));
  EXPECT_EQ(state_.phase, Phase::kSpawning);
}

TEST_F(MembershipTest, GivesUpWaitingForAgents) {
  Step();
  Advance(301);
  const auto actions = Step();
  ASSERT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(actions[0].exit_code, kExitFailed);
  EXPECT_THAT(actions[0].reason, HasSubstr("no agents with room for 4 ranks"));
}

TEST_F(MembershipTest, StartsWhenAllHaveSaidHello) {
  Agent(4);
  Step();
  for (int rank = 0; rank < 3; ++rank)
    OnWorkerHello(now_, state_.token, rank, Hello(1, "h"), &state_);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(reason_, "waiting for rank 3 to say hello");
  OnWorkerHello(now_, state_.token, 3, Hello(1, "h:3"), &state_);
  EXPECT_EQ(Kinds(Step()), (std::vector<Kind>{Kind::kStart}));
  EXPECT_EQ(state_.workers[3].endpoint, "h:3");
  AllTraining(1);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(state_.phase, Phase::kRunning);
}

TEST_F(MembershipTest, StartUpDeadline) {
  Agent(4);
  Step();
  OnWorkerHello(now_, state_.token, 0, Hello(1, "h"), &state_);
  Advance(5);
  AllHeard();
  Advance(116);
  AllHeard();
  const auto actions = Step();
  EXPECT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  EXPECT_THAT(actions[0].reason, HasSubstr("ranks 1, 2, 3 did not say hello"));
}

TEST_F(MembershipTest, ADeadWorkerEndsTheGenerationAtOnce) {
  Run();
  AllTraining(812);
  OnWorkerExited(now_, state_.token, 2, 0, 9, &state_);
  const auto actions = Step();
  ASSERT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  EXPECT_EQ(actions[0].reason,
            "rank 2 (host n1, pid 1002) was killed by signal 9 (Killed) at step 812");
  EXPECT_TRUE(actions[0].failure);
  EXPECT_EQ(actions[1].grace_s, 0);
  EXPECT_EQ(state_.phase, Phase::kDraining);
  GoneEverywhere();
  const auto next = Step();
  EXPECT_EQ(Kinds(next), (std::vector<Kind>{Kind::kActivate, Kind::kSpawn}));
  EXPECT_EQ(state_.token, (Token{7, 2}));
}

TEST_F(MembershipTest, NoNewGenerationBeforeTheOldOneIsReaped) {
  Agent(2, "n1");
  const int second = Agent(2, "n2");
  Run();
  OnWorkerExited(now_, state_.token, 0, 1, 0, &state_);
  Step();
  OnWorkersGone(state_.token, second, &state_);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(reason_, "waiting for 1 agent(s) to reap their workers");
  // An agent that does not answer is left out, and then the capacity is too small.
  Advance(5);
  OnAgentHeard(now_, second, &state_);
  for (int i = 0; i < 4; ++i) {
    Advance(5);
    AllHeard();
  }
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(state_.phase, Phase::kWaitingForAgents);
  EXPECT_EQ(state_.agents.size(), 1U);
}

TEST_F(MembershipTest, TheDeadRankIsTheCauseNotItsPeers) {
  Run();
  OnWorkerFailed(now_, state_.token, 0, StatusCode::kUnavailable, "rank 2 closed the connection",
                 &state_);
  EXPECT_TRUE(Step().empty()) << "it waits for a better cause";
  Advance(0.1);
  OnWorkerFailed(now_, state_.token, 1, StatusCode::kDeadlineExceeded, "all_reduce", &state_);
  EXPECT_TRUE(Step().empty());
  OnWorkerExited(now_, state_.token, 0, 1, 0, &state_);
  OnWorkerExited(now_, state_.token, 2, 0, 11, &state_);
  const auto actions = Step();
  EXPECT_THAT(actions.at(0).reason,
              HasSubstr("rank 2 (host n1, pid 1002) was killed by signal 11"));
}

TEST_F(MembershipTest, WithoutABetterCauseTheFirstPeerFailureCounts) {
  Run();
  OnWorkerFailed(now_, state_.token, 1, StatusCode::kUnavailable, "rank 3 is gone", &state_);
  Advance(0.2);
  OnWorkerFailed(now_, state_.token, 0, StatusCode::kUnavailable, "rank 1 is gone", &state_);
  EXPECT_TRUE(Step().empty());
  Advance(0.06);
  EXPECT_THAT(Step().at(0).reason,
              HasSubstr("rank 1 (host n1, pid 1001) failed at step 5: rank 3 is gone"));
}

TEST_F(MembershipTest, AFinishedWorkerMayLeave) {
  Run();
  OnWorkerFinished(state_.token, 1, 100, true, &state_);
  OnWorkerExited(now_, state_.token, 1, 0, 0, &state_);
  EXPECT_TRUE(Step().empty());
  for (int rank : {0, 2, 3}) OnWorkerFinished(state_.token, rank, 100, true, &state_);
  const auto actions = Step();
  ASSERT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  EXPECT_FALSE(actions[0].failure);
  EXPECT_EQ(actions[1].grace_s, options_.finish_grace_s);
  GoneEverywhere();
  const auto end = Step();
  ASSERT_EQ(Kinds(end), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(end[0].exit_code, kExitDone);
  EXPECT_EQ(state_.phase, Phase::kOver);
  EXPECT_TRUE(Step().empty());
}

TEST_F(MembershipTest, AnExitWithoutFinishedIsAFailureEvenWithCodeZero) {
  Run();
  OnWorkerExited(now_, state_.token, 1, 0, 0, &state_);
  EXPECT_THAT(Step().at(0).reason, HasSubstr("left with exit code 0 at step 5"));
}

TEST_F(MembershipTest, BadInputEndsTheRunAtOnce) {
  Run();
  OnWorkerFailed(now_, state_.token, 3, StatusCode::kInvalidArgument,
                 "recipe: model.clip.embed_dim is 0", &state_);
  Step();
  GoneEverywhere();
  const auto end = Step();
  ASSERT_EQ(Kinds(end), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(end[0].exit_code, kExitFailed);
  EXPECT_THAT(end[0].reason, HasSubstr("model.clip.embed_dim is 0"));
}

TEST_F(MembershipTest, CrashLoopEndsWithDoNotRequeueAndTheFirstCause) {
  for (int generation = 1; generation <= 3; ++generation) {
    Run();
    EXPECT_EQ(state_.token.generation, static_cast<uint64_t>(generation));
    OnWorkerExited(now_, state_.token, generation, 0, 9, &state_);
    Step();
    GoneEverywhere();
  }
  const auto end = Step();
  ASSERT_EQ(Kinds(end), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(end[0].exit_code, kExitDoNotRequeue);
  EXPECT_THAT(end[0].reason, HasSubstr("3 generations in a row"));
  EXPECT_THAT(end[0].reason, HasSubstr("the first cause: rank 1"));
}

TEST_F(MembershipTest, ACommitClearsTheCrashCount) {
  for (int generation = 1; generation <= 8; ++generation) {
    Run();
    if (generation % 2 == 0) OnCommit(state_.token, &state_);
    OnWorkerExited(now_, state_.token, 0, 0, 9, &state_);
    Step();
    GoneEverywhere();
  }
  EXPECT_FALSE(Step().empty());
  EXPECT_EQ(state_.token.generation, 9U);
}

TEST_F(MembershipTest, AStaleCommitDoesNotCount) {
  Run();
  OnCommit(Token{7, 0}, &state_);
  EXPECT_FALSE(state_.committed_in_generation);
}

TEST_F(MembershipTest, StopSavesAndEndsWith75) {
  Run();
  OnStopRequested(now_, "SIGTERM", &state_);
  EXPECT_EQ(Kinds(Step()), (std::vector<Kind>{Kind::kStopWorkers}));
  EXPECT_TRUE(Step().empty()) << "sent once";
  for (int rank = 0; rank < 4; ++rank) OnWorkerFinished(state_.token, rank, 17, false, &state_);
  Step();
  GoneEverywhere();
  const auto end = Step();
  EXPECT_EQ(end.at(0).exit_code, kExitStoppedEarly);
  EXPECT_EQ(end.at(0).reason, "stopped at step 17 (SIGTERM)");
}

TEST_F(MembershipTest, StopBeforeAnyWorker) {
  OnStopRequested(now_, "SIGINT", &state_);
  const auto end = Step();
  EXPECT_EQ(Kinds(end), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(end[0].exit_code, kExitStoppedEarly);
}

TEST_F(MembershipTest, StopWhileSpawning) {
  Agent(4);
  Step();
  OnStopRequested(now_, "SIGINT", &state_);
  EXPECT_EQ(Kinds(Step()), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  GoneEverywhere();
  EXPECT_EQ(Step().at(0).exit_code, kExitStoppedEarly);
}

TEST_F(MembershipTest, StopWithACrashStartsNothingNew) {
  Run();
  OnStopRequested(now_, "SIGTERM", &state_);
  Step();
  OnWorkerExited(now_, state_.token, 0, 0, 9, &state_);
  Step();
  GoneEverywhere();
  const auto end = Step();
  ASSERT_EQ(Kinds(end), (std::vector<Kind>{Kind::kShutdown}));
  EXPECT_EQ(end[0].exit_code, kExitStoppedEarly);
}

TEST_F(MembershipTest, StopHasADeadline) {
  Run();
  OnStopRequested(now_, "SIGTERM", &state_);
  Step();
  Advance(601);
  AllHeard();
  EXPECT_EQ(Kinds(Step()), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
}

TEST_F(MembershipTest, SecondSignalKillsAtOnce) {
  Run();
  OnStopRequested(now_, "SIGTERM", &state_);
  Step();
  OnSecondSignal(&state_);
  const auto actions = Step();
  ASSERT_EQ(Kinds(actions), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  EXPECT_EQ(actions[1].grace_s, 0);
  GoneEverywhere();
  EXPECT_EQ(Step().at(0).exit_code, kExitFailed);
}

TEST_F(MembershipTest, FatalErrorDrainsAndEnds) {
  Run();
  OnFatal("journal: no space left", &state_);
  Step();
  GoneEverywhere();
  const auto end = Step();
  EXPECT_EQ(end.at(0).exit_code, kExitFailed);
  EXPECT_EQ(end.at(0).reason, "journal: no space left");
}

TEST_F(MembershipTest, ALostAgentIsReplacedElsewhereAtOnce) {
  Agent(2, "n1");
  const int second = Agent(2, "n2");
  Agent(2, "n3");
  Run();
  OnAgentLost(now_, second, "closed its connection", &state_);
  const auto end = Step();
  // Only the agents that are there and have workers are asked to kill: n1.
  EXPECT_EQ(Kinds(end), (std::vector<Kind>{Kind::kEndGeneration, Kind::kKillWorkers}));
  EXPECT_EQ(end[0].reason, "the agent on host n2 (ranks 2, 3) closed its connection at step 5");
  GoneEverywhere();
  const auto next = Step();
  ASSERT_EQ(Kinds(next), (std::vector<Kind>{Kind::kActivate, Kind::kSpawn, Kind::kSpawn}));
  EXPECT_EQ(next[2].agent, 3);
}

TEST_F(MembershipTest, ALostAgentWithoutReplacementIsWaitedFor) {
  Agent(2, "n1");
  const int second = Agent(2, "n2");
  Run();
  OnAgentLost(now_, second, "closed its connection", &state_);
  Step();
  GoneEverywhere();
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(state_.phase, Phase::kWaitingForAgents);
  Advance(5);
  AllHeard();
  Agent(2, "n2");
  EXPECT_EQ(Kinds(Step()), (std::vector<Kind>{Kind::kActivate, Kind::kSpawn, Kind::kSpawn}));
}

TEST_F(MembershipTest, ASilentAgentIsLostAfterItsLease) {
  Agent(2, "n1");
  const int second = Agent(2, "n2");
  Run();
  Advance(10.9);
  OnAgentHeard(now_, second, &state_);
  EXPECT_TRUE(Step().empty());
  Advance(0.2);
  const auto actions = Step();
  ASSERT_FALSE(actions.empty());
  EXPECT_THAT(actions[0].reason, HasSubstr("the agent on host n1 (ranks 0, 1) was silent for 11"));
}

TEST_F(MembershipTest, AnIdleAgentMayLeave) {
  Agent(4, "n1");
  Run();
  const int spare = Agent(4, "n2");
  OnAgentLost(now_, spare, "closed its connection", &state_);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(state_.phase, Phase::kRunning);
}

TEST_F(MembershipTest, EventsOfAnOldGenerationDoNothing) {
  Run();
  const Token old = state_.token;
  OnWorkerExited(now_, old, 0, 0, 9, &state_);
  Step();
  GoneEverywhere();
  Step();
  ASSERT_EQ(state_.token.generation, 2U);
  OnWorkerHello(now_, old, 1, Hello(1, "old"), &state_);
  OnWorkerExited(now_, old, 1, 0, 9, &state_);
  OnWorkerFailed(now_, old, 1, StatusCode::kInternal, "old", &state_);
  OnWorkerFinished(old, 1, 5, true, &state_);
  OnHang(now_, old, 1, "old", &state_);
  EXPECT_FALSE(state_.workers[1].hello);
  EXPECT_FALSE(state_.workers[1].finished);
  EXPECT_TRUE(Step().empty());
}

TEST_F(MembershipTest, AHangEndsTheGenerationWithItsVerdict) {
  Run();
  OnHang(now_, state_.token, 1, "rank 1 has stood still for 61 s", &state_);
  EXPECT_EQ(Step().at(0).reason, "rank 1 has stood still for 61 s");
}

TEST_F(MembershipTest, EventsOutOfRangeDoNothing) {
  Run();
  OnWorkerExited(now_, state_.token, 99, 0, 9, &state_);
  OnWorkerExited(now_, state_.token, -1, 0, 9, &state_);
  OnAgentHeard(now_, 99, &state_);
  OnAgentLost(now_, 99, "x", &state_);
  EXPECT_TRUE(Step().empty());
}

}  // namespace
}  // namespace weft
