#include "coordinator/failure_detector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

using ::testing::HasSubstr;

class FailureDetectorTest : public ::testing::Test {
 protected:
  FailureDetectorTest() : detector_(Options()) { detector_.Reset(now_, 3); }
  static FailureDetectorOptions Options() {
    FailureDetectorOptions options;
    options.floor = FromSeconds(2);
    options.first_steps = FromSeconds(20);
    options.loading = FromSeconds(100);
    options.saving = FromSeconds(50);
    options.report_gap = FromSeconds(1);
    return options;
  }
  void Report(int rank, WorkerPhase phase, int64_t step, uint64_t counter,
              const std::string& operation = "") {
    detector_.OnProgress(now_, rank, {phase, step, counter, operation});
  }
  void Advance(double seconds) { now_ += FromSeconds(seconds); }
  // `steps` steps of all ranks, `seconds` each.
  void Train(int steps, double seconds) {
    for (int i = 0; i <= steps; ++i) {
      for (int rank = 0; rank < 3; ++rank)
        Report(rank, WorkerPhase::kTraining, step_, ++counter_ / 3);
      if (i == steps) break;
      Advance(seconds);
      ++step_;
    }
    for (int rank = 0; rank < 3; ++rank) Report(rank, WorkerPhase::kTraining, step_, counter_);
  }

  TimePoint now_ = TimePoint() + FromSeconds(1000);
  FailureDetector detector_;
  int64_t step_ = 0;
  uint64_t counter_ = 0;
};

TEST_F(FailureDetectorTest, PhasesHaveTheirOwnLimits) {
  for (int rank = 0; rank < 3; ++rank) Report(rank, WorkerPhase::kLoading, 0, 0);
  Advance(99);
  EXPECT_EQ(detector_.Check(now_).rank, -1);
  Advance(2);
  EXPECT_GE(detector_.Check(now_).rank, 0);
  for (int rank = 0; rank < 3; ++rank) Report(rank, WorkerPhase::kSaving, 0, 0);
  EXPECT_EQ(detector_.Check(now_).rank, -1) << "a change of phase is progress";
  Advance(51);
  EXPECT_THAT(detector_.Check(now_).verdict, HasSubstr("while saving"));
}

TEST_F(FailureDetectorTest, FirstStepsAreGivenTime) {
  Train(2, 0.1);
  EXPECT_EQ(detector_.Limit(0), FromSeconds(20));
  Train(6, 0.1);
  EXPECT_EQ(detector_.Limit(0), FromSeconds(2)) << "the floor";
}

TEST_F(FailureDetectorTest, LearnsSlowSteps) {
  Train(20, 3);
  EXPECT_NEAR(ToSeconds(detector_.Limit(1)), 15, 0.1);
  Advance(14);
  EXPECT_EQ(detector_.Check(now_).rank, -1);
  Advance(2);
  EXPECT_GE(detector_.Check(now_).rank, 0);
}

TEST_F(FailureDetectorTest, NamesTheRankThatIsBehind) {
  Train(10, 0.1);
  Report(0, WorkerPhase::kTraining, step_, counter_ + 7, "all_to_all grads.0 #812");
  Report(1, WorkerPhase::kTraining, step_, counter_ + 4, "forward");
  Report(2, WorkerPhase::kTraining, step_, counter_ + 7, "all_to_all grads.0 #812");
  for (int i = 0; i < 25; ++i) {
    Advance(0.1);
    // Reports go on; standing still is what counts.
    Report(0, WorkerPhase::kTraining, step_, counter_ + 7, "all_to_all grads.0 #812");
    Report(1, WorkerPhase::kTraining, step_, counter_ + 4, "forward");
    Report(2, WorkerPhase::kTraining, step_, counter_ + 7, "all_to_all grads.0 #812");
  }
  const HangVerdict hang = detector_.Check(now_);
  EXPECT_EQ(hang.rank, 1);
  EXPECT_THAT(hang.verdict, HasSubstr("rank 1 has stood still for 2.5"));
  EXPECT_THAT(hang.verdict, HasSubstr("at step 10 in \"forward\""));
  EXPECT_THAT(hang.verdict, HasSubstr("2 other ranks have waited up to 2.5"));
}

TEST_F(FailureDetectorTest, AStoppedProcessIsNamedByItsSilence) {
  Train(10, 0.1);
  for (int i = 0; i < 25; ++i) {
    Advance(0.1);
    Report(0, WorkerPhase::kTraining, step_, counter_, "all_reduce #9");
    Report(1, WorkerPhase::kTraining, step_, counter_, "all_reduce #9");
  }
  const HangVerdict hang = detector_.Check(now_);
  EXPECT_EQ(hang.rank, 2);
  EXPECT_THAT(hang.verdict, HasSubstr("it has sent no report for 2.5"));
}

TEST_F(FailureDetectorTest, EqualCountersTheOddOneOutIsNamed) {
  Train(10, 0.1);
  for (int i = 0; i < 25; ++i) {
    Advance(0.1);
    Report(0, WorkerPhase::kTraining, step_, counter_, "all_reduce #9");
    Report(1, WorkerPhase::kTraining, step_, counter_, "load batch");
    Report(2, WorkerPhase::kTraining, step_, counter_, "all_reduce #9");
  }
  EXPECT_EQ(detector_.Check(now_).rank, 1);
}

TEST_F(FailureDetectorTest, WaitingForASlowSaverIsNoHang) {
  Train(10, 0.1);
  Report(0, WorkerPhase::kSaving, step_, counter_ + 1);
  Report(1, WorkerPhase::kTraining, step_, counter_ + 5);
  Report(2, WorkerPhase::kTraining, step_, counter_ + 5);
  Advance(40);
  EXPECT_EQ(detector_.Check(now_).rank, -1) << "the last one may save for 50 s";
}

TEST_F(FailureDetectorTest, DoneAndGoneRanksDoNotHang) {
  Train(10, 0.1);
  Report(0, WorkerPhase::kDone, step_, counter_);
  detector_.OnLeft(1);
  Report(2, WorkerPhase::kDone, step_, counter_);
  Advance(10000);
  EXPECT_EQ(detector_.Check(now_).rank, -1);
}

TEST_F(FailureDetectorTest, ANewGenerationForgetsEverything) {
  Train(20, 3);
  Advance(1000);
  EXPECT_GE(detector_.Check(now_).rank, 0);
  detector_.Reset(now_, 2);
  EXPECT_EQ(detector_.Check(now_).rank, -1);
  Report(0, WorkerPhase::kTraining, 0, 0);
  EXPECT_EQ(detector_.Limit(0), FromSeconds(20)) << "step times are learned anew";
  Report(2, WorkerPhase::kTraining, 0, 0);  // a rank that does not exist any more
  EXPECT_EQ(detector_.Check(now_).rank, -1);
}

}  // namespace
}  // namespace weft
