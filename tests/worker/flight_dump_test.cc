#include "worker/flight_dump.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

TEST(FlightDumpTest, TheLastOnesAndAllThatHaveNotEnded) {
  FlightRecorder recorder;
  const uint64_t stuck = recorder.Enqueued("all_reduce norm", 1, 8, "tp.0");
  recorder.Started(stuck);
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t id = recorder.Enqueued("send act", 2 + i, 64, "pp.0");
    recorder.Started(id);
    recorder.Ended(id, i != 2);
  }
  const control::FlightDump dump = DumpFlightRecorder(recorder, 2);
  ASSERT_EQ(dump.operations_size(), 3);
  EXPECT_EQ(dump.operations(0).operation(), "all_reduce norm");
  EXPECT_EQ(dump.operations(0).axis(), "tp.0");
  EXPECT_EQ(dump.operations(0).state(), control::FlightOperation::STARTED);
  EXPECT_EQ(dump.operations(1).sequence(), 3u);
  EXPECT_EQ(dump.operations(1).state(), control::FlightOperation::DONE);
  EXPECT_EQ(dump.operations(1).bytes(), 64u);
  EXPECT_EQ(dump.operations(2).state(), control::FlightOperation::FAILED);
  EXPECT_GE(dump.operations(2).ago_s(), 0);
}

}  // namespace
}  // namespace weft
