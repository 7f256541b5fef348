// What a plan says of reads, bytes and cache, against what is known of small sets.
#include "dataloader/data_plan.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "cli/data_command.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

constexpr uint64_t kSampleBytes = 10;
constexpr uint64_t kChunk = 8;

// One shard of 64 chunks of 8 samples.
StatusOr<DataPlan> Plan(int64_t nodes, int64_t steps) {
  OrderOptions options;
  options.slots = 4;
  options.global_batch = 32;
  options.lanes = 4;
  options.chunk = kChunk;
  options.window = 4;
  const auto order = SampleOrder::Create(options, {{"a", {512}}});
  if (!order.ok()) return order.status();
  return PlanData(*order, {512}, {nodes, 4, steps},
                  [](const SampleRef& ref, uint64_t* bytes) -> StatusOr<PlannedChunk> {
                    *bytes = kSampleBytes;
                    return PlannedChunk{ref.id / kChunk, kChunk * kSampleBytes};
                  });
}

TEST(DataPlan, OneNodeReadsEachChunkOnceAnEpoch) {
  const auto plan = Plan(1, 16);  // 512 samples
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->nodes.size(), 1U);
  EXPECT_EQ(plan->nodes[0].samples, 512);
  EXPECT_EQ(plan->nodes[0].reads, 64U);
  EXPECT_EQ(plan->nodes[0].bytes, 512 * kSampleBytes);
  EXPECT_DOUBLE_EQ(plan->amplification, 1);
  EXPECT_DOUBLE_EQ(plan->epochs[0], 1);
  // 4 lanes with windows of 4 chunks are open, and the tail's chunks (at most 512 - 4 * 15 * 8 = 32 samples).
  EXPECT_LE(plan->nodes[0].peak_cache, (2 * 4 * 4 + 32) * kChunk * kSampleBytes);
  EXPECT_GE(plan->nodes[0].peak_cache, 4 * 3 * kChunk * kSampleBytes);
}

TEST(DataPlan, NodesShareTheSamplesAndFewChunks) {
  const auto plan = Plan(4, 16);
  ASSERT_TRUE(plan.ok()) << plan.status();
  uint64_t bytes = 0;
  for (const NodePlan& node : plan->nodes) {
    EXPECT_EQ(node.samples, 128);
    bytes += node.bytes;
  }
  // Only chunks of the tail are read by more than one node: at most 4 of them, by 4 nodes.
  EXPECT_GE(bytes, 512 * kSampleBytes);
  EXPECT_LE(bytes, 512 * kSampleBytes + 4 * 3 * kChunk * kSampleBytes);
  EXPECT_DOUBLE_EQ(plan->amplification, static_cast<double>(bytes) / (512 * kSampleBytes));
}

TEST(DataPlan, MoreNodesThanSlotsAreRefused) {
  EXPECT_EQ(Plan(5, 1).status().code(), StatusCode::kInvalidArgument);
}

TEST(DataPlan, TheCommandReadsARecipe) {
  testing::TempDir dir;
  WriteShard(dir / "a.tar", MakeSamples(0, 40, 16));
  const std::string recipe = std::string(WEFT_SOURCE_DIR) + "/recipes/clip/demo.textproto";
  ::testing::internal::CaptureStdout();
  const int code = DataCommand({"plan", recipe, "--nodes", "1", "--steps", "3", "--rate", "1000",
                                "--set", "data.train_shards[0]=" + (dir / "a.tar")});
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_NE(out.find("set train: 40 samples"), std::string::npos) << out;
  EXPECT_NE(out.find("for 1000 samples/s"), std::string::npos) << out;
}

}  // namespace
}  // namespace weft
