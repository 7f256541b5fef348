#include "parallel/schedule/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/schedule/verifier.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

constexpr StageCosts kEqual{.forward = 1, .backward_input = 1, .backward_weight = 1};

ProgramSpec Spec(PipelineSchedule schedule, int p, int v, int m) {
  ProgramSpec spec;
  spec.schedule = schedule;
  spec.ranks = p;
  spec.chunks = v;
  spec.micro_batches_a_slot = m;
  return spec;
}

Timeline TimelineOf(const ProgramSpec& spec, const StageCosts& stage, double hop = 0) {
  const auto programs = MakeProgram(spec);
  EXPECT_TRUE(programs.ok()) << programs.status();
  EXPECT_TRUE(VerifyProgram(spec, *programs).ok());
  StepCosts costs;
  costs.stages.assign(static_cast<size_t>(spec.num_stages()), stage);
  costs.hop = hop;
  return Simulate(spec, *programs, costs);
}

TEST(SimulateTest, EqualStagesReachTheIdealOfEverySchedule) {
  const StageCosts uneven{.forward = 2, .backward_input = 2.5, .backward_weight = 1.5};
  for (const StageCosts& stage : {kEqual, uneven}) {
    for (const int p : {1, 2, 3, 4, 8}) {
      for (const int groups : {1, 2, 5}) {
        for (const auto schedule : {GPIPE, ONE_F_ONE_B, ZB_H1}) {
          const ProgramSpec spec = Spec(schedule, p, 1, p * groups);
          EXPECT_NEAR(TimelineOf(spec, stage).bubble, IdealBubble(spec, stage), 1e-12)
              << PipelineSchedule_Name(schedule) << " p " << p << " m " << p * groups;
        }
        for (const int v : {2, 3, 4}) {
          const ProgramSpec spec = Spec(INTERLEAVED_1F1B, p, v, p * groups);
          EXPECT_NEAR(TimelineOf(spec, stage).bubble, IdealBubble(spec, stage), 1e-12)
              << "interleaved p " << p << " v " << v << " m " << p * groups;
        }
      }
    }
  }
}

TEST(SimulateTest, PhasesReachTheirIdeal) {
  const std::vector<PhaseSpec> contrastive = {
      {.pass = PassKind::kForward}, {.join = true}, {.pass = PassKind::kBackward}};
  for (const bool rerun : {false, true}) {
    for (const auto schedule : {GPIPE, ONE_F_ONE_B, ZB_H1, INTERLEAVED_1F1B}) {
      for (const size_t phases : {1, 3}) {
        ProgramSpec spec = Spec(schedule, 4, schedule == INTERLEAVED_1F1B ? 2 : 1, 8);
        spec.phases.assign(contrastive.begin(), contrastive.begin() + static_cast<long>(phases));
        spec.rerun_forward = rerun;
        EXPECT_NEAR(TimelineOf(spec, kEqual).bubble, IdealBubble(spec, kEqual), 1e-12)
            << PipelineSchedule_Name(schedule) << " rerun " << rerun << " phases " << phases;
      }
    }
  }
}

TEST(SimulateTest, IdealFormulas) {
  // p = 4, m = 8: 3 / 11; interleaved over 2 stages a rank 3 / 19; ZB-H1 3 / 27.
  EXPECT_DOUBLE_EQ(IdealBubble(Spec(GPIPE, 4, 1, 8), kEqual), 3.0 / 11);
  EXPECT_DOUBLE_EQ(IdealBubble(Spec(ONE_F_ONE_B, 4, 1, 8), kEqual), 3.0 / 11);
  EXPECT_DOUBLE_EQ(IdealBubble(Spec(INTERLEAVED_1F1B, 4, 2, 8), kEqual), 3.0 / 19);
  EXPECT_DOUBLE_EQ(IdealBubble(Spec(ZB_H1, 4, 1, 8), kEqual), 3.0 / 27);
  EXPECT_DOUBLE_EQ(IdealBubble(Spec(ONE_F_ONE_B, 1, 1, 8), kEqual), 0);
}

TEST(SimulateTest, ZeroBubbleBeatsOneForwardOneBackward) {
  for (const int p : {2, 4, 8, 16}) {
    for (const int m : {p, 2 * p, 64}) {
      const double plain = TimelineOf(Spec(ONE_F_ONE_B, p, 1, m), kEqual).bubble;
      const double zero_bubble = TimelineOf(Spec(ZB_H1, p, 1, m), kEqual).bubble;
      EXPECT_LT(zero_bubble, plain * 0.7) << p << " " << m;
    }
  }
}

TEST(SimulateTest, AnyNumberOfMicroBatchesKeepsInterleavingBetter) {
  const StageCosts half{.forward = 0.5, .backward_input = 0.5, .backward_weight = 0.5};
  for (int m = 1; m <= 24; ++m) {
    const double interleaved = TimelineOf(Spec(INTERLEAVED_1F1B, 4, 2, m), half).makespan;
    const double plain = TimelineOf(Spec(ONE_F_ONE_B, 4, 1, m), kEqual).makespan;
    EXPECT_LE(interleaved, plain) << m;
  }
}

TEST(SimulateTest, HopsMakeTheBubbleLarger) {
  const ProgramSpec spec = Spec(ONE_F_ONE_B, 4, 1, 8);
  EXPECT_GT(TimelineOf(spec, kEqual, 0.25).bubble, TimelineOf(spec, kEqual).bubble);
}

TEST(SimulateTest, TheSlowestStageSetsThePace) {
  const ProgramSpec spec = Spec(ONE_F_ONE_B, 3, 1, 40);
  StepCosts costs;
  costs.stages = {kEqual, {.forward = 2, .backward_input = 2, .backward_weight = 2}, kEqual};
  const Timeline timeline = Simulate(spec, *MakeProgram(spec), costs);
  EXPECT_DOUBLE_EQ(timeline.busy[1], 240);
  // It waits 1 for its first forward and 1 for its first gradients; the stage before it goes on for 2.
  EXPECT_DOUBLE_EQ(timeline.makespan, 240 + 1 + 1 + 2);
}

TEST(SimulateTest, FrozenStagesShortenTheDelayOfWeightGradients) {
  ProgramSpec spec = Spec(ZB_H1, 4, 1, 8);
  spec.first_backward_stage = 2;
  // Ranks 2 and 3 wait 2 for the first forward, and then only for each other.
  EXPECT_DOUBLE_EQ(TimelineOf(spec, kEqual).makespan, 2 + 24 + 1);
}

TEST(SimulateTest, DrawsWhichStageIsAtWork) {
  const Timeline timeline = TimelineOf(Spec(INTERLEAVED_1F1B, 2, 2, 2), kEqual);
  EXPECT_EQ(DrawTimeline(timeline, 15),
            "step 15.0s, a character 1.0s, idle 20.0 %; 0-9 forward (micro-batch mod 10), a-j "
            "backward, A-J weight gradients, | join, . idle\n"
            "rank 0   0101..aa.bbaabb  80.0 %\n"
            "   stage 0011..11.110000\n"
            "rank 1   .010aa1bbaabb..  80.0 %\n"
            "   stage .001111110000..\n");
}

TEST(SimulateTest, MeasuredEntriesStartAtZero) {
  const Action forward{.kind = ActionKind::kForward};
  const Timeline timeline = MakeTimeline({{{forward, 5, 5.25}}, {{forward, 5.25, 5.5}}, {}});
  EXPECT_DOUBLE_EQ(timeline.makespan, 0.5);
  EXPECT_DOUBLE_EQ(timeline.bubble, 2.0 / 3);
  EXPECT_DOUBLE_EQ(timeline.ranks[1][0].start, 0.25);
  EXPECT_THAT(DrawTimeline(timeline, 10), HasSubstr("step 500ms, a character 50ms, idle 66.7 %"));
  EXPECT_DOUBLE_EQ(MakeTimeline({{}, {}}).bubble, 0);
}

TEST(SimulateTest, DrawsOneRowARank) {
  const Timeline timeline = TimelineOf(Spec(ZB_H1, 2, 1, 3), kEqual);
  EXPECT_EQ(DrawTimeline(timeline, 10),
            "step 10.0s, a character 1.0s, idle 10.0 %; 0-9 forward (micro-batch mod 10), a-j "
            "backward, A-J weight "
            "gradients, | join, . idle\n"
            "rank 0   01.aA2bBcC  90.0 %\n"
            "rank 1   .0a1bA2cBC  90.0 %\n");
}

}  // namespace
}  // namespace weft
