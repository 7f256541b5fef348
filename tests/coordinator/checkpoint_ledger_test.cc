#include "coordinator/checkpoint_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/ledger_world.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---------------------------------------------------------------- the pure state machine

class LedgerTest : public ::testing::Test {
 protected:
  void SetUp() override { EXPECT_TRUE(ledger_.OnGeneration(token_, 2).empty()); }
  std::vector<LedgerAction> Request(int rank, int64_t step) {
    return ledger_.OnSaveRequest(now_, token_, rank, step, TinyState(step).SerializeAsString());
  }
  // Both ranks have asked and may write.
  CheckpointName Granted(int64_t step) {
    EXPECT_TRUE(Request(0, step).empty());
    const auto begin = Request(1, step);
    const auto grants = ledger_.OnBegun(now_, OkStatus());
    EXPECT_EQ(grants.size(), 2U);
    return std::get<BeginAttempt>(begin.at(0)).name;
  }
  std::string Shard(const CheckpointName& name, int rank) {
    const auto info = WriteTinyShard(&fs_, "ckpt", name, rank, 2);
    EXPECT_TRUE(info.ok()) << info.status();
    return info->SerializeAsString();
  }
  std::vector<LedgerAction> Prepared(const CheckpointName& name, int rank) {
    (void)fs_.MakeDirs("ckpt/" + AttemptDirectoryName(name));
    return ledger_.OnShardPrepared(now_, token_, rank, name.step, name.attempt, Shard(name, rank),
                                   "");
  }
  static const SendOutcome& Outcome(const LedgerAction& action) {
    return std::get<SendOutcome>(action);
  }

  FaultInjectingFileSystem fs_;
  TimePoint now_ = TimePoint() + FromSeconds(100);
  Token token_ = {1, 2};
  CheckpointLedger ledger_{LedgerOptions{}};
};

TEST_F(LedgerTest, TheWholeWay) {
  EXPECT_TRUE(Request(0, 1000).empty());
  const auto begin = Request(1, 1000);
  ASSERT_EQ(begin.size(), 1U);
  const CheckpointName name = std::get<BeginAttempt>(begin[0]).name;
  EXPECT_EQ(AttemptDirectoryName(name), "step-001000.E1.G2.A1");
  const auto grants = ledger_.OnBegun(now_, OkStatus());
  ASSERT_EQ(grants.size(), 2U);
  EXPECT_EQ(std::get<SendGrant>(grants[1]).rank, 1);
  EXPECT_TRUE(Prepared(name, 1).empty());
  const auto commit = Prepared(name, 0);
  ASSERT_EQ(commit.size(), 1U);
  EXPECT_EQ(std::get<CommitAttempt>(commit[0]).manifest.shards_size(), 2);
  const auto outcomes = ledger_.OnCommitDone(OkStatus(), false);
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_TRUE(Outcome(outcomes[0]).committed);
  EXPECT_FALSE(ledger_.busy());
  EXPECT_EQ(Granted(1000).attempt, 2) << "the same step again is another attempt";
}

TEST_F(LedgerTest, StaleTokensAreDroppedAndCounted) {
  const CheckpointName name = Granted(10);
  EXPECT_TRUE(ledger_.OnSaveRequest(now_, {1, 1}, 0, 10, "").empty());
  EXPECT_TRUE(ledger_.OnShardPrepared(now_, {1, 1}, 0, 10, name.attempt, "x", "").empty());
  EXPECT_TRUE(ledger_.OnShardPrepared(now_, token_, 0, 10, name.attempt + 1, "x", "").empty());
  EXPECT_TRUE(ledger_.OnShardPrepared(now_, token_, 7, 10, name.attempt, "x", "").empty());
  EXPECT_EQ(ledger_.num_stale(), 4U);
  EXPECT_TRUE(ledger_.busy());
}

TEST_F(LedgerTest, ARankThatCannotWriteAbortsForAll) {
  const CheckpointName name = Granted(10);
  EXPECT_TRUE(Prepared(name, 1).empty());
  const auto actions = ledger_.OnShardPrepared(now_, token_, 0, 10, name.attempt, "", "disk full");
  ASSERT_EQ(actions.size(), 3U);
  EXPECT_EQ(std::get<AbortAttempt>(actions[0]).name, name);
  for (int rank = 0; rank < 2; ++rank) {
    const SendOutcome& outcome = Outcome(actions[static_cast<size_t>(rank) + 1]);
    EXPECT_FALSE(outcome.committed);
    EXPECT_EQ(outcome.reason, "rank 0 could not write its shard: disk full");
  }
}

TEST_F(LedgerTest, AMissingRequestTimesOut) {
  Request(0, 10);
  now_ += FromSeconds(119);
  EXPECT_TRUE(ledger_.OnTick(now_).empty());
  now_ += FromSeconds(2);
  const auto actions = ledger_.OnTick(now_);
  ASSERT_EQ(actions.size(), 1U) << "no attempt was begun, and rank 1 does not wait";
  EXPECT_THAT(Outcome(actions[0]).reason, HasSubstr("rank(s) 1 did not ask to save step 10"));
  // The late rank is answered at once, the next save works.
  const auto late = Request(1, 10);
  ASSERT_EQ(late.size(), 1U);
  EXPECT_FALSE(Outcome(late[0]).committed);
  Granted(20);
}

TEST_F(LedgerTest, AMissingShardTimesOut) {
  const CheckpointName name = Granted(10);
  Prepared(name, 0);
  now_ += FromSeconds(1801);
  const auto actions = ledger_.OnTick(now_);
  ASSERT_EQ(actions.size(), 3U);
  EXPECT_THAT(std::get<AbortAttempt>(actions[0]).reason, HasSubstr("rank(s) 1 did not write"));
}

TEST_F(LedgerTest, RanksMustAgreeOnStepAndState) {
  Request(0, 10);
  const auto other_step = Request(1, 11);
  ASSERT_EQ(other_step.size(), 2U);
  EXPECT_THAT(Outcome(other_step[0]).reason,
              HasSubstr("rank 1 wants to save step 11, others step 10"));
  Request(0, 20);
  const auto other_state =
      ledger_.OnSaveRequest(now_, token_, 1, 20, TinyState(21).SerializeAsString());
  ASSERT_FALSE(other_state.empty());
  EXPECT_THAT(Outcome(other_state[0]).reason, HasSubstr("another train state"));
}

TEST_F(LedgerTest, AHoleIsNotCommitted) {
  const CheckpointName name = Granted(10);
  (void)fs_.MakeDirs("ckpt/" + AttemptDirectoryName(name));
  checkpoint::ShardInfo empty;
  Prepared(name, 0);
  const auto shard = WriteShard(&fs_, "ckpt/" + AttemptDirectoryName(name),
                                {.rank = 1,
                                 .world_size = 2,
                                 .epoch = 1,
                                 .generation = 2,
                                 .step = 10,
                                 .attempt = name.attempt},
                                {});
  ASSERT_TRUE(shard.ok());
  const auto actions =
      ledger_.OnShardPrepared(now_, token_, 1, 10, name.attempt, shard->SerializeAsString(), "");
  ASSERT_EQ(actions.size(), 3U);
  EXPECT_THAT(std::get<AbortAttempt>(actions[0]).reason, HasSubstr("are in no shard"));
}

TEST_F(LedgerTest, TheGenerationsEndAbortsSilently) {
  const CheckpointName name = Granted(10);
  const auto actions = ledger_.OnGenerationEnd("rank 1 died");
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(std::get<AbortAttempt>(actions[0]).name, name);
  EXPECT_TRUE(Prepared(name, 0).empty()) << "no token is active";
  EXPECT_EQ(ledger_.num_stale(), 1U);
}

TEST_F(LedgerTest, AnAttemptThatCannotBeginIsAborted) {
  Request(0, 10);
  Request(1, 10);
  const auto actions = ledger_.OnBegun(now_, ResourceExhausted("no space left"));
  ASSERT_EQ(actions.size(), 3U);
  EXPECT_THAT(Outcome(actions[1]).reason, HasSubstr("no space left"));
}

TEST_F(LedgerTest, AnUnknownOutcomeAbortsNothing) {
  const CheckpointName name = Granted(10);
  Prepared(name, 0);
  Prepared(name, 1);
  const auto actions = ledger_.OnCommitDone(Unavailable("fsync"), /*unknown=*/true);
  ASSERT_EQ(actions.size(), 2U);
  EXPECT_FALSE(Outcome(actions[0]).committed);
  EXPECT_THAT(Outcome(actions[0]).reason, HasSubstr("outcome unknown"));
}

// ---------------------------------------------------------------- with journal and files

class CommitterTest : public ::testing::Test {
 protected:
  FaultInjectingFileSystem fs_;
};

TEST_F(CommitterTest, CommitsAndKeepsTheNewest) {
  LedgerWorld world(&fs_, 2);
  ASSERT_TRUE(world.Open().ok());
  EXPECT_FALSE(world.committer().LatestManifest().value());
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(world.Save(step)) << world.reason();
  EXPECT_THAT(world.CommittedSteps(), ElementsAre(30, 20));
  EXPECT_THAT(world.Leftovers(), IsEmpty());
  EXPECT_TRUE(fs_.ListDir("run/ckpt/trash").value().empty());
  EXPECT_TRUE(world.CheckCommitted().ok());
  EXPECT_EQ(world.committer().LatestManifest().value()->state().step(), 30);
}

TEST_F(CommitterTest, FallsBackPastDamage) {
  LedgerWorld world(&fs_, 3);
  ASSERT_TRUE(world.Open().ok());
  for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(world.Save(step));
  fs_.FlipBit("run/ckpt/MANIFEST-000030.E1.G1.A3", 300);
  EXPECT_EQ(world.committer().LatestManifest().value()->state().step(), 20);
  ASSERT_TRUE(
      world.committer().MarkBad("MANIFEST-000020.E1.G1.A2", "a worker found block 0 damaged").ok());
  EXPECT_EQ(world.committer().LatestManifest().value()->state().step(), 10);
  LedgerWorld next(&fs_, 3);
  ASSERT_TRUE(next.Open().ok());
  EXPECT_THAT(next.CommittedSteps(), ElementsAre(10)) << "it is remembered";
}

TEST_F(CommitterTest, ASupersededCoordinatorAnnouncesNothing) {
  LedgerWorld old(&fs_, 3);
  ASSERT_TRUE(old.Open().ok());
  ASSERT_TRUE(old.Save(10));
  LedgerWorld successor(&fs_, 3);
  ASSERT_TRUE(successor.Open().ok());
  EXPECT_FALSE(old.Save(20));
  EXPECT_TRUE(old.committer().superseded());
  ASSERT_TRUE(successor.Save(21));
  EXPECT_THAT(successor.CommittedSteps(), ElementsAre(21, 10));
  LedgerWorld last(&fs_, 3);
  ASSERT_TRUE(last.Open().ok());
  EXPECT_THAT(last.CommittedSteps(), ElementsAre(21, 10)) << "the old one's late commit is void";
}

TEST_F(CommitterTest, AFullDiskAbortsTheAttemptAndTouchesNothingOlder) {
  LedgerWorld world(&fs_, 3);
  ASSERT_TRUE(world.Open().ok());
  ASSERT_TRUE(world.Save(10));
  // A save needs about `bytes`; from nothing to all of it, whatever is short.
  const uint64_t before = fs_.used_bytes();
  ASSERT_TRUE(world.Save(20));
  const uint64_t bytes = fs_.used_bytes() - before;
  int64_t step = 30;
  int failures = 0;
  for (uint64_t room = 0; room < bytes; room += 100, step += 10) {
    fs_.SetCapacity(fs_.used_bytes() + room);
    EXPECT_FALSE(world.Save(step)) << room;
    ++failures;
    fs_.SetCapacity(std::nullopt);
    EXPECT_THAT(world.CommittedSteps(), ElementsAre(20, 10)) << room;
    ASSERT_TRUE(world.CheckCommitted().ok());
  }
  EXPECT_GT(failures, 20);
  ASSERT_FALSE(world.journal().broken());
  ASSERT_TRUE(world.Save(step)) << world.reason();
  EXPECT_THAT(world.CommittedSteps(), ElementsAre(step, 20, 10));
  EXPECT_THAT(world.Leftovers(), IsEmpty());
}

// Every call of one save (with its retention) fails once, with either error: the outcome is told, training goes on, older
// checkpoints load, and a restart agrees with what was announced.
TEST_F(CommitterTest, EveryFailingCallOfASaveIsHarmless) {
  int64_t calls = 0;
  {
    LedgerWorld world(&fs_, 2);
    ASSERT_TRUE(world.Open().ok());
    for (const int64_t step : {10, 20}) ASSERT_TRUE(world.Save(step));
    const int64_t before = fs_.num_calls();
    ASSERT_TRUE(world.Save(30));
    calls = fs_.num_calls() - before;
  }
  ASSERT_GT(calls, 30);
  for (const Status& fault : {ResourceExhausted("no space left"), Unavailable("I/O error")}) {
    for (int64_t call = 1; call <= calls; ++call) {
      SCOPED_TRACE(fault.message() + " at call " + std::to_string(call));
      FaultInjectingFileSystem fs;
      std::vector<int64_t> announced;
      {
        LedgerWorld world(&fs, 2);
        ASSERT_TRUE(world.Open().ok());
        for (const int64_t step : {10, 20}) ASSERT_TRUE(world.Save(step));
        fs.FailCall(call, fault);
        if (world.Save(30)) announced.push_back(30);
        fs.ClearFaults();
        ASSERT_TRUE(world.CheckCommitted().ok());
        const bool saved = world.Save(40);
        EXPECT_EQ(saved, !world.journal().broken()) << world.reason();
        if (saved) announced.push_back(40);
        ASSERT_TRUE(world.CheckCommitted().ok());
      }
      LedgerWorld next(&fs, 2);
      ASSERT_TRUE(next.Open().ok());
      const std::vector<int64_t> steps = next.CommittedSteps();
      ASSERT_GE(steps.size(), 2U);
      for (const int64_t step : announced) EXPECT_THAT(steps, ::testing::Contains(step));
      const Status loads = next.CheckCommitted();
      ASSERT_TRUE(loads.ok()) << loads;
      ASSERT_TRUE(next.Save(50)) << next.reason();
      EXPECT_THAT(next.Leftovers(), IsEmpty());
    }
  }
}

}  // namespace
}  // namespace weft
