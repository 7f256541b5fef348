#include "checkpoint/shard_writer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "checkpoint/shard_format.h"
#include "cluster/base/file_system.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

const CheckpointName kName = {1000, 1, 2, 1};

class ShardWriterTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(fs_.MakeDirs("dir").ok()); }
  std::vector<std::string> Files() { return fs_.ListDir("dir").value(); }

  FaultInjectingFileSystem fs_;
  ShardWriterOptions options_;
  std::vector<float> data_ = std::vector<float>(100, 1.5F);
};

TEST_F(ShardWriterTest, LaysSlicesOutAligned) {
  const auto info = WriteShard(&fs_, "dir", options_,
                               {FlatSlice("param/a", "f32", {10, 10}, 3, 20, data_.data()),
                                FlatSlice("param/b", "f32", {7}, 0, 7, data_.data())});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->file(), "shard-00000-of-00001.bin");
  EXPECT_EQ(info->slices(0).payload_offset(), 0U);
  EXPECT_EQ(info->slices(1).payload_offset(), 128U);  // 17 * 4 = 68, rounded up
  EXPECT_EQ(info->payload_bytes(), 128U + 28U);
  EXPECT_EQ(info->block_crcs_size(), 1);
  EXPECT_EQ(fs_.FileSize("dir/" + info->file()).value(), info->file_bytes());
  EXPECT_EQ(Files(), std::vector<std::string>{info->file()}) << "no .part is left";
}

TEST_F(ShardWriterTest, SurvivesAPowerCutOnceItHasReturned) {
  ASSERT_TRUE(fs_.SyncDir(".").ok());
  const auto info =
      WriteShard(&fs_, "dir", options_, {FlatSlice("x", "f32", {100}, 0, 100, data_.data())});
  ASSERT_TRUE(info.ok());
  const std::string before = fs_.ReadFile("dir/" + info->file()).value();
  fs_.Crash(CrashMode::kPowerCut);
  EXPECT_EQ(fs_.ReadFile("dir/" + info->file()).value(), before);
}

TEST_F(ShardWriterTest, SplitsThePayloadIntoBlocks) {
  std::vector<float> big(700000);
  std::iota(big.begin(), big.end(), 0.0F);
  const auto info =
      WriteShard(&fs_, "dir", options_, {FlatSlice("x", "f32", {700000}, 0, 700000, big.data())});
  ASSERT_TRUE(info.ok());
  ASSERT_EQ(info->block_crcs_size(), 3);  // 2.67 MiB
  const auto* bytes = reinterpret_cast<const char*>(big.data());
  EXPECT_EQ(info->block_crcs(0), Crc32c(bytes, kShardBlockBytes));
  EXPECT_EQ(info->block_crcs(2),
            Crc32c(bytes + 2 * kShardBlockBytes, 2800000 - 2 * kShardBlockBytes));
}

TEST_F(ShardWriterTest, EmptyShardIsAFile) {
  const auto info = WriteShard(&fs_, "dir", options_, {});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->payload_bytes(), 0U);
  EXPECT_EQ(info->block_crcs_size(), 0);
}

TEST_F(ShardWriterTest, RefusesToWriteTwice) {
  ASSERT_TRUE(WriteShard(&fs_, "dir", options_, {}).ok());
  EXPECT_EQ(WriteShard(&fs_, "dir", options_, {}).status().code(), StatusCode::kAlreadyExists);
}

TEST_F(ShardWriterTest, RefusesSlicesThatMakeNoSense) {
  const auto write = [&](const SliceData& slice) {
    return WriteShard(&fs_, "dir", options_, {slice}).status();
  };
  EXPECT_EQ(write(FlatSlice("x", "f99", {4}, 0, 4, data_.data())).code(),
            StatusCode::kInvalidArgument);
  const Status range = write(FlatSlice("x", "f32", {4}, 0, 5, data_.data()));
  EXPECT_EQ(range.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(range.message().find("'x'"), std::string::npos) << range;
  SliceData box = FlatSlice("x", "f32", {4, 4}, 0, 4, data_.data());
  box.meta.set_offsets(1, 3);
  EXPECT_EQ(write(box).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Files().empty());
}

// Whatever call fails, the shard has no final name, no .part stays and the error says what it was.
TEST_F(ShardWriterTest, EveryFailingCallIsReported) {
  const std::vector<SliceData> slices = {FlatSlice("x", "f32", {100}, 0, 100, data_.data())};
  const int64_t before = fs_.num_calls();
  ASSERT_TRUE(WriteShard(&fs_, "dir", options_, slices).ok());
  const int64_t calls = fs_.num_calls() - before;
  ASSERT_GE(calls, 7);
  for (const Status& fault : {ResourceExhausted("no space left"), Unavailable("I/O error")}) {
    for (int64_t call = 1; call <= calls; ++call) {
      ASSERT_TRUE(fs_.RemoveTree("dir").ok());
      ASSERT_TRUE(fs_.MakeDirs("dir").ok());
      fs_.FailCall(call, fault);
      const auto info = WriteShard(&fs_, "dir", options_, slices);
      EXPECT_EQ(info.status().code(), fault.code()) << "call " << call;
      if (call < calls) {
        EXPECT_TRUE(Files().empty()) << "call " << call;
      }
      fs_.ClearFaults();
    }
  }
}

TEST(ShardWriterOnDiskTest, WritesAndReadsBack) {
  testing::TempDir dir;
  const auto manifest = WriteTinyCheckpoint(PosixFileSystem(), dir.path(), kName, 3);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE(CheckTinyCheckpoint(PosixFileSystem(), dir.path(), *manifest, 2).ok());
  const auto report = VerifyCheckpoint(PosixFileSystem(), dir.path(), *manifest);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->shards, 3);
  EXPECT_EQ(report->tensors, 6);
}

}  // namespace
}  // namespace weft
