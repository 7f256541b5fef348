#include "cluster/comm/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/comm/in_process_communicator.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using State = FlightRecorder::State;

TEST(FlightRecorderTest, KeepsTheLastEntriesInOrder) {
  FlightRecorder recorder(3);
  for (uint64_t i = 1; i <= 5; ++i) recorder.Enqueued("op" + std::to_string(i), i, 8);
  const auto entries = recorder.Entries();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].operation, "op3");
  EXPECT_EQ(entries[2].operation, "op5");
}

TEST(FlightRecorderTest, FollowsTheStatesAndIgnoresOverwrittenEntries) {
  FlightRecorder recorder(2);
  const uint64_t old = recorder.Enqueued("old", 1, 8);
  const uint64_t done = recorder.Enqueued("done", 2, 8);
  const uint64_t running = recorder.Enqueued("running", 3, 40 << 20);
  recorder.Started(old);
  recorder.Started(done);
  recorder.Ended(done, true);
  recorder.Started(running);
  recorder.Ended(old, false);
  const auto entries = recorder.Entries();
  EXPECT_EQ(entries[0].state, State::kDone);
  EXPECT_EQ(entries[1].state, State::kStarted);
  EXPECT_EQ(recorder.ended_count(), 2u);
  EXPECT_THAT(recorder.Snapshot(), HasSubstr("#3 running 40"));
  EXPECT_THAT(recorder.Snapshot(), HasSubstr("started, running for"));
}

TEST(FlightRecorderTest, CommunicatorsNoteTheirOperations) {
  FlightRecorder recorder;
  auto ranks = MakeInProcessCommunicators(
      2, {.recorders = {&recorder, nullptr}, .group = "tp.4", .world_ranks = {4, 5}});
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  float a = 1;
  float b = 2;
  WorkPtr first = (*ranks)[0]->AllReduce(&a, 1, DType::kFloat32, ReduceOp::kSum, {.name = "loss"});
  WorkPtr other = (*ranks)[1]->AllReduce(&b, 1, DType::kFloat32, ReduceOp::kSum, {.name = "loss"});
  ASSERT_TRUE(first->Wait().ok());
  ASSERT_TRUE(other->Wait().ok());
  WorkPtr message = (*ranks)[0]->Send(&a, 4, 1, {.name = "act"});
  ASSERT_TRUE(message->Wait().ok());
  WorkPtr second = (*ranks)[0]->Barrier({.name = "end"});
  (*ranks)[0]->Abort(Cancelled("enough"));
  EXPECT_FALSE(second->Wait().ok());
  const auto entries = recorder.Entries();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].operation, "all_reduce loss");
  EXPECT_EQ(entries[0].state, State::kDone);
  EXPECT_EQ(entries[0].bytes, 4u);
  EXPECT_EQ(entries[0].axis, "tp.4");
  EXPECT_EQ(entries[1].operation, "send act to rank 5");
  EXPECT_EQ(entries[2].state, State::kFailed);
}

}  // namespace
}  // namespace weft
