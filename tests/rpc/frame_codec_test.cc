#include "cluster/rpc/frame_codec.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

control::Frame HeartbeatFrame(uint64_t sequence) {
  control::Frame frame;
  frame.mutable_token()->set_epoch(3);
  frame.mutable_heartbeat()->set_sequence(sequence);
  return frame;
}

TEST(FrameCodecTest, WritesLittleEndianLengthThenBody) {
  const auto bytes = EncodeFrame(HeartbeatFrame(7));
  ASSERT_TRUE(bytes.ok());
  const size_t body_size = bytes->size() - kFrameHeaderBytes;
  EXPECT_EQ(static_cast<unsigned char>((*bytes)[0]), body_size);
  EXPECT_EQ((*bytes)[1], 0);
  const auto length = DecodeFrameLength(bytes->data());
  ASSERT_TRUE(length.ok());
  EXPECT_EQ(*length, body_size);
  const auto frame = DecodeFrameBody(bytes->substr(kFrameHeaderBytes));
  ASSERT_TRUE(frame.ok());
  EXPECT_EQ(frame->heartbeat().sequence(), 7u);
  EXPECT_EQ(frame->token().epoch(), 3u);
}

TEST(FrameCodecTest, RefusesALengthOverTheLimit) {
  const unsigned char header[] = {0x01, 0x00, 0x00, 0x04};  // 64 MiB + 1
  const auto length = DecodeFrameLength(header);
  EXPECT_EQ(length.status().code(), StatusCode::kCorruption);
  EXPECT_NE(length.status().message().find("67108865"), std::string::npos) << length.status();
}

TEST(FrameCodecTest, RefusesToEncodeAFrameOverTheLimit) {
  control::Frame frame;
  frame.mutable_status_reply()->set_json(std::string(kMaxFrameBytes + 1, 'x'));
  EXPECT_EQ(EncodeFrame(frame).status().code(), StatusCode::kInvalidArgument);
}

TEST(FrameCodecTest, RefusesBytesThatDoNotParse) {
  EXPECT_EQ(DecodeFrameBody("\xff\xff\xff").status().code(), StatusCode::kCorruption);
}

TEST(FrameCodecTest, NamesWhatAFrameCarries) {
  control::Frame frame;
  EXPECT_EQ(FrameName(frame), "empty");
  frame.mutable_from_worker()->mutable_message()->mutable_progress();
  EXPECT_EQ(FrameName(frame), "from_worker/progress");
}

TEST(FrameCodecTest, OrdersTokensByEpochThenGeneration) {
  control::Token a;
  a.set_epoch(1);
  a.set_generation(9);
  control::Token b;
  b.set_epoch(2);
  b.set_generation(1);
  EXPECT_TRUE(IsOlder(a, b));
  EXPECT_FALSE(IsOlder(b, a));
  EXPECT_FALSE(IsOlder(a, a));
  EXPECT_EQ(TokenName(a), "E1.G9");
}

}  // namespace
}  // namespace weft
