#include "cluster/rpc/frame_connection.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "cluster/rpc/blocking_socket.h"
#include "cluster/rpc/frame_codec.h"
#include "cluster/rpc/frame_server.h"

namespace weft {
namespace {

using std::chrono::milliseconds;

control::Frame Beat(uint64_t sequence) {
  control::Frame frame;
  frame.mutable_heartbeat()->set_sequence(sequence);
  return frame;
}

// A connection in a loop at one end, a bare descriptor at the other; the loop stops when the
// connection ends.
class FrameConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    connection_ = std::make_unique<FrameConnection>(&loop_, fds[0], "rank 3");
    peer_ = fds[1];
    guard_ = loop_.After(std::chrono::seconds(10), [this] { loop_.Stop(); });
  }
  void TearDown() override { ::close(peer_); }

  void RunUntilClosed() {
    connection_->Start({.on_frame = [this](const control::Frame& f) { frames_.push_back(f); },
                        .on_closed =
                            [this](const Status& reason) {
                              closed_ = reason;
                              loop_.Stop();
                            }});
    loop_.Run();
  }
  void Write(std::string_view bytes) {
    ASSERT_EQ(::write(peer_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }

  EventLoop loop_;
  std::unique_ptr<FrameConnection> connection_;
  std::unique_ptr<EventLoop::Registration> guard_;
  int peer_ = -1;
  std::vector<control::Frame> frames_;
  Status closed_;
};

TEST_F(FrameConnectionTest, ReadsFramesThenSaysWhoClosed) {
  Write(*EncodeFrame(Beat(1)) + *EncodeFrame(Beat(2)));
  ::shutdown(peer_, SHUT_WR);
  RunUntilClosed();
  ASSERT_EQ(frames_.size(), 2u);
  EXPECT_EQ(frames_[1].heartbeat().sequence(), 2u);
  EXPECT_EQ(closed_.code(), StatusCode::kUnavailable);
  EXPECT_NE(closed_.message().find("rank 3"), std::string::npos) << closed_;
}

TEST_F(FrameConnectionTest, AFrameCutShortIsNotDelivered) {
  const std::string bytes = *EncodeFrame(Beat(1));
  Write(bytes.substr(0, bytes.size() - 1));
  ::shutdown(peer_, SHUT_WR);
  RunUntilClosed();
  EXPECT_TRUE(frames_.empty());
  EXPECT_NE(closed_.message().find("inside a frame"), std::string::npos) << closed_;
}

TEST_F(FrameConnectionTest, ABadLengthClosesWithTheReason) {
  Write("GET / HTTP/1.1\r\n");
  RunUntilClosed();
  EXPECT_EQ(closed_.code(), StatusCode::kCorruption) << closed_;
}

TEST_F(FrameConnectionTest, AnUnparsableFrameCloses) {
  Write(std::string("\x03\0\0\0\xff\xff\xff", 7));
  RunUntilClosed();
  EXPECT_EQ(closed_.code(), StatusCode::kCorruption) << closed_;
}

TEST_F(FrameConnectionTest, WritesWhatIsQueuedBeforeItCloses) {
  // More than a socket buffer holds, read by nobody until the loop runs.
  control::Frame big;
  big.mutable_status_reply()->set_json(std::string(4 << 20, 'x'));
  connection_->Send(big);
  connection_->Send(Beat(9));
  connection_->CloseAfterWrites(Cancelled("done"));
  BlockingSocket reader(::dup(peer_));
  std::vector<control::Frame> got;
  std::thread thread([&] {
    for (int i = 0; i < 2; ++i) {
      auto frame = reader.Receive(Clock::now() + std::chrono::seconds(5));
      if (frame.ok()) got.push_back(*frame);
    }
  });
  RunUntilClosed();
  thread.join();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[1].heartbeat().sequence(), 9u);
  EXPECT_EQ(closed_.code(), StatusCode::kCancelled);
}

TEST_F(FrameConnectionTest, MayBeDestroyedInItsOwnCallback) {
  Write(*EncodeFrame(Beat(1)) + *EncodeFrame(Beat(2)));
  int calls = 0;
  connection_->Start({.on_frame =
                          [&](const control::Frame&) {
                            ++calls;
                            connection_.reset();
                          },
                      .on_closed = [&](const Status&) { ADD_FAILURE(); }});
  const auto end = loop_.After(milliseconds(50), [&] { loop_.Stop(); });
  loop_.Run();
  EXPECT_EQ(calls, 1);
}

TEST(FrameServerTest, AcceptsAndAnswers) {
  EventLoop loop;
  std::unique_ptr<FrameConnection> accepted;
  auto server = FrameServer::Listen(&loop, {"127.0.0.1", 0}, [&](auto connection) {
    accepted = std::move(connection);
    accepted->Start({.on_frame =
                         [&](const control::Frame& frame) {
                           control::Frame reply;
                           reply.mutable_heartbeat_ack()->set_sequence(
                               frame.heartbeat().sequence());
                           accepted->Send(reply);
                         },
                     .on_closed = [&](const Status&) { loop.Stop(); }});
  });
  ASSERT_TRUE(server.ok()) << server.status();
  std::thread client([endpoint = (*server)->endpoint()] {
    const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
    const auto fd = ConnectControl(endpoint, deadline);
    ASSERT_TRUE(fd.ok()) << fd.status();
    BlockingSocket socket(*fd);
    ASSERT_TRUE(socket.Send(Beat(5), deadline).ok());
    const auto reply = socket.Receive(deadline);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->heartbeat_ack().sequence(), 5u);
  });
  loop.Run();
  client.join();
}

}  // namespace
}  // namespace weft
