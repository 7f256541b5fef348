#include "coordinator/recovery_timeline.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

using std::chrono::seconds;

TEST(RecoveryTimelineTest, TimesEachPhase) {
  TimePoint now{};
  RecoveryTimeline timeline;
  timeline.OnLost(now, "rank 1 was killed");
  timeline.OnPhase(now += seconds(1), "reap");
  timeline.OnPhase(now += seconds(2), "respawn");
  timeline.OnStart(30);
  const auto recovery = timeline.OnStep(now += seconds(3));
  ASSERT_TRUE(recovery.has_value());
  EXPECT_DOUBLE_EQ(recovery->seconds, 6);
  ASSERT_EQ(recovery->phases.size(), 3u);
  EXPECT_EQ(recovery->phases[2].first, "first_step");
  EXPECT_DOUBLE_EQ(recovery->phases[2].second, 3);
  EXPECT_EQ(recovery->Sentence(), "rank 1 was killed; resumed from step 30 in 6.0s");
}

TEST(RecoveryTimelineTest, StepsWithoutALossAreNoRecovery) {
  RecoveryTimeline timeline;
  timeline.OnPhase({}, "reap");
  EXPECT_FALSE(timeline.OnStep({}).has_value());
}

TEST(RecoveryTimelineTest, ASecondLossKeepsTheFirstMoment) {
  TimePoint now{};
  RecoveryTimeline timeline;
  timeline.OnLost(now, "rank 1 was killed");
  timeline.OnLost(now += seconds(5), "rank 0 was killed");
  const auto recovery = timeline.OnStep(now += seconds(1));
  ASSERT_TRUE(recovery.has_value());
  EXPECT_DOUBLE_EQ(recovery->seconds, 6);
  EXPECT_EQ(recovery->Sentence(),
            "rank 1 was killed; then rank 0 was killed; started again from init in 6.0s");
  EXPECT_FALSE(timeline.OnStep(now).has_value());
}

}  // namespace
}  // namespace weft
