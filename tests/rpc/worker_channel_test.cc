#include "cluster/rpc/worker_channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

#include "cluster/rpc/blocking_socket.h"

namespace weft {
namespace {

using std::chrono::milliseconds;

TimePoint Soon() { return Clock::now() + std::chrono::seconds(5); }

control::Frame ToWorker(const control::CoordinatorMessage& message) {
  control::Frame frame;
  frame.mutable_token()->set_epoch(1);
  frame.mutable_token()->set_generation(4);
  *frame.mutable_to_worker()->mutable_message() = message;
  return frame;
}

class WorkerChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    agent_.emplace(fds[0]);
    WorkerChannelOptions options;
    options.fd = fds[1];
    options.rank = 2;
    options.on_lost = [this](const Status&) { lost_ = true; };
    channel_ = std::make_unique<WorkerChannel>(std::move(options));
  }

  std::atomic<bool> lost_ = false;
  std::optional<BlockingSocket> agent_;
  std::unique_ptr<WorkerChannel> channel_;
};

TEST_F(WorkerChannelTest, SendsWithItsRank) {
  control::WorkerMessage hello;
  hello.mutable_hello()->set_pid(77);
  ASSERT_TRUE(channel_->Send(hello).ok());
  const auto frame = agent_->Receive(Soon());
  ASSERT_TRUE(frame.ok()) << frame.status();
  EXPECT_EQ(frame->from_worker().rank(), 2);
  EXPECT_EQ(frame->from_worker().message().hello().pid(), 77);
}

TEST_F(WorkerChannelTest, ReceivesInOrderAndLearnsItsToken) {
  control::CoordinatorMessage start;
  start.mutable_start()->set_world_size(4);
  control::CoordinatorMessage grant;
  grant.mutable_save_grant()->set_step(10);
  ASSERT_TRUE(agent_->Send(ToWorker(start), Soon()).ok());
  ASSERT_TRUE(agent_->Send(ToWorker(grant), Soon()).ok());
  EXPECT_EQ(channel_->Receive(Soon())->start().world_size(), 4);
  EXPECT_EQ(channel_->token().generation(), 4u);
  EXPECT_EQ(channel_->Receive(Soon())->save_grant().step(), 10);
}

TEST_F(WorkerChannelTest, AStopSetsAFlagAndIsNotQueued) {
  EXPECT_FALSE(channel_->stop_requested());
  control::CoordinatorMessage stop;
  stop.mutable_stop()->set_reason("SIGTERM");
  ASSERT_TRUE(agent_->Send(ToWorker(stop), Soon()).ok());
  const TimePoint deadline = Soon();
  while (!channel_->stop_requested() && Clock::now() < deadline)
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(channel_->stop_requested());
  EXPECT_EQ(channel_->stop_reason(), "SIGTERM");
  EXPECT_EQ(channel_->Receive(Clock::now() + milliseconds(5)).status().code(),
            StatusCode::kDeadlineExceeded);
}

// By the reader thread: the one that hangs could not.
TEST_F(WorkerChannelTest, ADumpIsAnsweredAtOnce) {
  control::CoordinatorMessage request;
  request.mutable_dump_recorder()->set_last(3);
  const auto answer = [&] {
    EXPECT_TRUE(agent_->Send(ToWorker(request), Soon()).ok());
    auto frame = agent_->Receive(Soon());
    EXPECT_TRUE(frame.ok()) << frame.status();
    EXPECT_TRUE(frame->from_worker().message().has_flight_dump());
    return frame->from_worker().message().flight_dump();
  };
  EXPECT_EQ(answer().operations_size(), 0);
  channel_->SetFlightSource([](int last) {
    control::FlightDump dump;
    dump.add_operations()->set_sequence(static_cast<uint64_t>(last));
    return dump;
  });
  EXPECT_EQ(answer().operations(0).sequence(), 3u);
  channel_->SetFlightSource(nullptr);
  EXPECT_EQ(answer().operations_size(), 0);
}

TEST_F(WorkerChannelTest, TheAgentsDeathEndsAWaitAndCallsOnLost) {
  std::thread killer([this] {
    std::this_thread::sleep_for(milliseconds(20));
    agent_.reset();
  });
  const auto message = channel_->Receive(Soon());
  EXPECT_EQ(message.status().code(), StatusCode::kUnavailable) << message.status();
  killer.join();
  EXPECT_EQ(channel_->Send({}).code(), StatusCode::kUnavailable);
  channel_.reset();  // joins the reader
  EXPECT_TRUE(lost_);
}

TEST_F(WorkerChannelTest, ItsOwnEndIsNoLoss) {
  channel_.reset();
  EXPECT_FALSE(lost_);
  EXPECT_EQ(agent_->Receive(Soon()).status().code(), StatusCode::kUnavailable);
}

TEST(WorkerChannelSendTest, AnAgentThatHangsIsADeadline) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  WorkerChannelOptions options;
  options.fd = fds[1];
  options.rank = 0;
  options.on_lost = [](const Status&) {};
  options.send_timeout = milliseconds(50);
  {
    WorkerChannel channel(std::move(options));
    control::WorkerMessage big;
    big.mutable_eval()->set_details_json(std::string(8 << 20, 'x'));
    EXPECT_EQ(channel.Send(big).code(), StatusCode::kDeadlineExceeded);
  }
  ::close(fds[0]);
}

}  // namespace
}  // namespace weft
