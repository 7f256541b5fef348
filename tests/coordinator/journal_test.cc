#include "coordinator/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/ledger_world.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

journal::Record Note(const std::string& text) {
  journal::Record record;
  record.mutable_note()->set_text(text);
  return record;
}

journal::Record Begin(int64_t step) {
  journal::Record record;
  record.mutable_save_begin()->set_step(step);
  record.mutable_save_begin()->set_generation(1);
  record.mutable_save_begin()->set_attempt(1);
  return record;
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs_.MakeDirs("run").ok());
    ASSERT_TRUE(fs_.SyncDir(".").ok());
  }
  std::unique_ptr<Journal> Open() {
    auto journal = Journal::Open(&fs_, "run");
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }
  std::string Log(uint64_t epoch) { return "run/coord/" + EpochLogName(epoch); }
  std::vector<journal::Record> Records(uint64_t epoch) {
    return ParseLog(fs_.ReadFile(Log(epoch)).value()).records;
  }

  FaultInjectingFileSystem fs_;
};

TEST_F(JournalTest, ClaimsRisingEpochs) {
  EXPECT_EQ(Open()->epoch(), 1U);
  EXPECT_EQ(Open()->epoch(), 2U);
  EXPECT_TRUE(fs_.Exists("run/coord/epoch-0000002.log"));
  ASSERT_EQ(Records(2).size(), 1U);
  EXPECT_EQ(Records(2)[0].epoch_open().previous_epoch(), 1U);
  EXPECT_EQ(Records(2)[0].epoch_open().accepted_bytes(), fs_.FileSize(Log(1)).value());
  EXPECT_EQ(ListEpochs(&fs_, "run").value(), (std::vector<uint64_t>{1, 2}));
}

TEST_F(JournalTest, AppendedRecordsSurviveAPowerCut) {
  auto journal = Open();
  ASSERT_TRUE(journal->Append(Note("one")).ok());
  ASSERT_TRUE(journal->Append(Note("two")).ok());
  fs_.Crash(CrashMode::kPowerCut);
  const auto records = Records(1);
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[2].note().text(), "two");
}

TEST_F(JournalTest, EpochsAreNeverUsedTwiceEvenIfJournalsAreLost) {
  ASSERT_TRUE(WriteTinyCheckpoint(&fs_, "run/ckpt", {10, 9, 1, 1}, 2).ok());
  EXPECT_EQ(Open()->epoch(), 10U);
}

TEST_F(JournalTest, ReplayStopsAtTheFirstBadRecord) {
  auto journal = Open();
  ASSERT_TRUE(journal->Append(Begin(10)).ok());
  const std::string good = fs_.ReadFile(Log(1)).value();
  ASSERT_TRUE(journal->Append(Begin(20)).ok());
  const std::string whole = fs_.ReadFile(Log(1)).value();
  for (size_t size = good.size(); size < whole.size(); ++size) {
    const LogContents log = ParseLog(std::string_view(whole).substr(0, size));
    EXPECT_EQ(log.records.size(), 2U);
    EXPECT_EQ(log.accepted_bytes, good.size());
  }
  for (size_t bit = good.size() * 8; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(ParseLog(damaged).records.size(), 2U) << bit;
  }
  EXPECT_EQ(ParseLog(whole).records.size(), 3U);
  EXPECT_TRUE(ParseLog("").records.empty());
}

TEST_F(JournalTest, WhatAnOldCoordinatorAppendsLaterIsVoid) {
  auto old = Open();
  auto middle = Open();
  ASSERT_TRUE(old->Append(Begin(10)).ok());
  EXPECT_TRUE(old->Superseded().value());
  EXPECT_FALSE(middle->Superseded().value());
  auto next = Open();
  EXPECT_EQ(next->recovered().previous_epoch, 2U);
  EXPECT_THAT(next->recovered().aborted, IsEmpty()) << "the late BEGIN was never accepted";
}

TEST_F(JournalTest, AnEpochThatWasOnlyClaimedIsSkipped) {
  auto first = Open();
  ASSERT_TRUE(first->Append(Begin(10)).ok());
  ASSERT_TRUE(fs_.CreateExclusive(Log(2)).ok());
  auto third = Open();
  EXPECT_EQ(third->epoch(), 3U);
  EXPECT_EQ(third->recovered().previous_epoch, 1U);
  ASSERT_EQ(third->recovered().aborted.size(), 1U);
  EXPECT_EQ(third->recovered().aborted[0].step(), 10);
}

TEST_F(JournalTest, TwoThatStartAtOnceDoNotShareAnEpoch) {
  // Both have listed; the other one creates its file first.
  class Racing : public FaultInjectingFileSystem {
   public:
    StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
      if (path.find("coord/") != std::string::npos)
        (void)FaultInjectingFileSystem::CreateExclusive(path);
      return FaultInjectingFileSystem::CreateExclusive(path);
    }
  } fs;
  EXPECT_EQ(Journal::Open(&fs, "run").status().code(), StatusCode::kAlreadyExists);
}

TEST_F(JournalTest, AFullDiskLeavesNoHalfRecord) {
  auto journal = Open();
  fs_.FailCall(1, ResourceExhausted("no space left"));
  EXPECT_EQ(journal->Append(Note("lost")).code(), StatusCode::kResourceExhausted);
  EXPECT_FALSE(journal->broken());
  ASSERT_TRUE(journal->Append(Note("kept")).ok());
  const auto records = Records(1);
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].note().text(), "kept");
}

TEST_F(JournalTest, AFailedSyncIsFinal) {
  auto journal = Open();
  fs_.FailCall(2, Unavailable("I/O error"));
  EXPECT_FALSE(journal->Append(Note("lost")).ok());
  EXPECT_TRUE(journal->broken());
  const Status again = journal->Append(Note("refused"));
  EXPECT_EQ(again.code(), StatusCode::kUnavailable);
  EXPECT_NE(again.message().find("I/O error"), std::string::npos) << "the first cause";
}

TEST_F(JournalTest, RecoversCommitsInTheirOrder) {
  {
    LedgerWorld world(&fs_, /*keep=*/3);
    ASSERT_TRUE(world.Open().ok());
    for (const int64_t step : {10, 20, 15}) ASSERT_TRUE(world.Save(step)) << world.reason();
    journal::Record finished;
    finished.mutable_run_finished()->set_exit_code(75);
    ASSERT_TRUE(world.journal().Append(std::move(finished)).ok());
  }
  const auto state = ReplayJournal(&fs_, "run");
  ASSERT_TRUE(state.ok());
  std::vector<int64_t> steps;
  for (const auto& commit : state->committed) steps.push_back(commit.step());
  EXPECT_THAT(steps, ElementsAre(10, 20, 15));
  EXPECT_TRUE(state->finished);
  EXPECT_EQ(state->finished_exit_code, 75);
  EXPECT_FALSE(state->torn);
}

TEST_F(JournalTest, WithoutAnyJournalManifestsThatVerifyAreAdopted) {
  {
    LedgerWorld world(&fs_, /*keep=*/3);
    ASSERT_TRUE(world.Open().ok());
    for (const int64_t step : {10, 20, 30}) ASSERT_TRUE(world.Save(step)) << world.reason();
  }
  ASSERT_TRUE(fs_.RemoveTree("run/coord").ok());
  fs_.FlipBit("run/ckpt/step-000030.E1.G1.A3/shard-00001-of-00002.bin", 900);
  LedgerWorld world(&fs_, /*keep=*/3);
  ASSERT_TRUE(world.Open().ok());
  EXPECT_THAT(world.CommittedSteps(), ElementsAre(20, 10));
}

TEST_F(JournalTest, DamageInTheMiddleOfALogLosesNoCheckpoint) {
  uint64_t size = 0;
  {
    LedgerWorld world(&fs_, /*keep=*/3);
    ASSERT_TRUE(world.Open().ok());
    ASSERT_TRUE(world.Save(10));
    size = fs_.FileSize(Log(1)).value();
    ASSERT_TRUE(world.Save(20));
  }
  fs_.FlipBit(Log(1), (size + 20) * 8);
  LedgerWorld world(&fs_, /*keep=*/3);
  ASSERT_TRUE(world.Open().ok());
  EXPECT_THAT(world.CommittedSteps(), ElementsAre(20, 10));
  EXPECT_TRUE(world.CheckCommitted().ok());
}

}  // namespace
}  // namespace weft
