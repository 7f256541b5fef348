#include "checkpoint/retention.h"

#include <gtest/gtest.h>

#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

constexpr CheckpointState kGood = CheckpointState::kCommitted;
constexpr CheckpointState kBad = CheckpointState::kBad;
constexpr CheckpointState kAborted = CheckpointState::kAborted;

std::vector<int64_t> Removed(const std::vector<CheckpointState>& states, int keep) {
  std::vector<RetentionEntry> entries;
  for (const CheckpointState state : states) {
    entries.push_back({{static_cast<int64_t>(entries.size()), 1, 1, 1}, state});
  }
  std::vector<int64_t> steps;
  for (const CheckpointName& name : DecideRetention(entries, {.keep = keep}).remove)
    steps.push_back(name.step);
  return steps;
}

TEST(RetentionTest, KeepsTheNewest) {
  EXPECT_EQ(Removed({kGood, kGood, kGood, kGood}, 3), (std::vector<int64_t>{0}));
  EXPECT_EQ(Removed({kGood, kGood}, 3), std::vector<int64_t>{});
  EXPECT_EQ(Removed({}, 3), std::vector<int64_t>{});
}

TEST(RetentionTest, NeverKeepsFewerThanTwo) {
  EXPECT_EQ(Removed({kGood, kGood, kGood}, 1), (std::vector<int64_t>{0}));
  EXPECT_EQ(Removed({kGood, kGood, kGood}, 0), (std::vector<int64_t>{0}));
}

TEST(RetentionTest, AbortedOnesGo) {
  EXPECT_EQ(Removed({kAborted, kGood, kAborted}, 2), (std::vector<int64_t>{0, 2}));
}

TEST(RetentionTest, BadOnesDoNotCount) {
  // Two bad ones are newest: the two good ones stay, and so does the evidence.
  EXPECT_EQ(Removed({kGood, kGood, kGood, kBad, kBad}, 2), (std::vector<int64_t>{0}));
  EXPECT_EQ(Removed({kGood, kBad, kGood, kGood}, 2), (std::vector<int64_t>{0, 1}));
}

TEST(RetentionTest, RemovesManifestBeforeDirectory) {
  const CheckpointName name = {7, 1, 1, 1};
  FaultInjectingFileSystem fs;
  for (int64_t calls = 0;; ++calls) {
    const auto manifest = WriteTinyCheckpoint(&fs, "ckpt", name, 2);
    ASSERT_TRUE(manifest.ok());
    ASSERT_TRUE(WriteManifest(&fs, "ckpt", *manifest).ok());
    const int64_t before = fs.num_calls();
    fs.StopAfter(calls);
    const bool done = RemoveCheckpoint(&fs, "ckpt", name).ok();
    fs.Crash(CrashMode::kProcessDied);
    const bool has_manifest = fs.Exists("ckpt/" + ManifestFileName(name));
    const bool has_directory = fs.Exists("ckpt/" + AttemptDirectoryName(name));
    EXPECT_TRUE(has_directory || !has_manifest) << "after " << calls << " calls";
    if (has_manifest) {
      EXPECT_TRUE(VerifyCheckpoint(&fs, "ckpt", *manifest).ok());
    }
    // The next attempt ends the job, and nothing is left in trash/.
    ASSERT_TRUE(RemoveCheckpoint(&fs, "ckpt", name).ok());
    ASSERT_TRUE(CleanUp(&fs, "ckpt").ok());
    EXPECT_FALSE(fs.Exists("ckpt/" + AttemptDirectoryName(name)));
    if (fs.Exists("ckpt/trash")) {
      EXPECT_TRUE(fs.ListDir("ckpt/trash").value().empty());
    }
    if (done) {
      EXPECT_GE(fs.num_calls() - before, 7);
      break;
    }
  }
}

}  // namespace
}  // namespace weft
