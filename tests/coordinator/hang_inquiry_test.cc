#include "coordinator/hang_inquiry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

using Next = HangInquiry::Next;

control::FlightOperation Operation(const std::string& name, control::FlightOperation::State state) {
  control::FlightOperation operation;
  operation.set_axis("dp.1");
  operation.set_operation(name);
  operation.set_sequence(7);
  operation.set_bytes(2048);
  operation.set_state(state);
  operation.set_seconds(61);
  operation.set_ago_s(3);
  return operation;
}

TEST(HangInquiryTest, AsksOnceAndWaitsForAllOrASecond) {
  HangInquiry inquiry;
  inquiry.Reset(2);
  const TimePoint now{};
  inquiry.OnDump(0, {});  // of an inquiry before: nobody asked
  EXPECT_EQ(inquiry.OnVerdict(now), Next::kAsk);
  EXPECT_EQ(inquiry.OnVerdict(now), Next::kWait);
  inquiry.OnDump(1, {});
  inquiry.OnDump(7, {});
  EXPECT_EQ(inquiry.OnVerdict(now + std::chrono::milliseconds(999)), Next::kWait);
  EXPECT_EQ(inquiry.OnVerdict(now + std::chrono::seconds(1)), Next::kDecide);
  inquiry.OnDump(0, {});
  EXPECT_EQ(inquiry.OnVerdict(now), Next::kDecide);
  inquiry.Reset(2);
  EXPECT_EQ(inquiry.OnVerdict(now), Next::kAsk);
}

TEST(HangInquiryTest, ReportsTheOperationsOfAllRanks) {
  HangInquiry inquiry;
  inquiry.Reset(3);
  inquiry.OnVerdict({});
  control::FlightDump dump;
  *dump.add_operations() = Operation("all_reduce norm", control::FlightOperation::DONE);
  inquiry.OnDump(1, dump);
  EXPECT_EQ(inquiry.LastOperation(1),
            "dp.1 #7 all_reduce norm (2.0 KiB), done after 61.0s, 3.0s ago");
  *dump.add_operations() = Operation("all_to_all grads", control::FlightOperation::STARTED);
  *dump.add_operations() = Operation("barrier", control::FlightOperation::ENQUEUED);
  inquiry.OnDump(1, dump);
  inquiry.OnDump(2, {});
  EXPECT_EQ(inquiry.LastOperation(0), "");
  EXPECT_EQ(inquiry.LastOperation(1), "dp.1 #7 all_to_all grads (2.0 KiB), running for 61.0s");
  EXPECT_EQ(inquiry.Report(),
            "rank 0:\n  no answer within 1.0s\n"
            "rank 1:\n  dp.1 #7 all_reduce norm (2.0 KiB), done after 61.0s, 3.0s ago\n"
            "  dp.1 #7 all_to_all grads (2.0 KiB), running for 61.0s\n"
            "  dp.1 #7 barrier (2.0 KiB), in the queue for 61.0s\n"
            "rank 2:\n  no operations\n");
}

}  // namespace
}  // namespace weft
