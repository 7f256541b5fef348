#include "cli/checkpoint_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/checkpoint_committer.h"
#include "coordinator/journal.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

// A run with committed checkpoints of steps 10 and 20 and an attempt at 30 that was given up.
class CheckpointCommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto journal = Journal::Open(fs_, run_);
    ASSERT_TRUE(journal.ok()) << journal.status();
    auto committer = CheckpointCommitter::Create(fs_, run_, journal->get(), {});
    ASSERT_TRUE(committer.ok()) << committer.status();
    const TimePoint now;
    (*committer)->OnGeneration(now, {1, 1}, 1);
    for (const int64_t step : {10, 20}) {
      const auto grant =
          (*committer)->OnSaveRequest(now, {1, 1}, 0, step, TinyState(step).SerializeAsString());
      ASSERT_EQ(grant.size(), 1U);
      const CheckpointName name = std::get<SendGrant>(grant[0]).name;
      const auto shard = WriteTinyShard(fs_, (*committer)->checkpoint_dir(), name, 0, 1);
      ASSERT_TRUE(shard.ok()) << shard.status();
      const auto outcome =
          (*committer)
              ->OnShardPrepared(now, {1, 1}, 0, step, name.attempt, shard->SerializeAsString(), "");
      ASSERT_TRUE(std::get<SendOutcome>(outcome.at(0)).committed);
    }
    ASSERT_EQ(
        (*committer)->OnSaveRequest(now, {1, 1}, 0, 30, TinyState(30).SerializeAsString()).size(),
        1U);
  }
  // Exit code, and what was printed to stdout and stderr.
  int Run(const std::vector<std::string>& args) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = CheckpointCommand(args);
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return code;
  }
  void DamageStep20() {
    const std::string path = run_ + "/ckpt/step-000020.E1.G1.A2/shard-00000-of-00001.bin";
    std::string bytes = fs_->ReadFile(path).value();
    bytes[100] = static_cast<char>(bytes[100] ^ 1);
    ASSERT_TRUE(WriteFileDurably(fs_, path, bytes).ok());
  }

  testing::TempDir dir_;
  FileSystem* fs_ = PosixFileSystem();
  const std::string run_ = dir_ / "run";
  std::string out_;
  std::string err_;
};

TEST_F(CheckpointCommandTest, Lists) {
  for (const std::string& path : {run_, run_ + "/", run_ + "/ckpt"}) {
    EXPECT_EQ(Run({"list", path}), 0) << path;
    EXPECT_THAT(out_, HasSubstr("10  E1.G1.A1"));
    EXPECT_THAT(out_, HasSubstr("20  E1.G1.A2"));
    EXPECT_THAT(out_, HasSubstr("committed"));
    EXPECT_THAT(out_, HasSubstr("unfinished"));
  }
}

TEST_F(CheckpointCommandTest, Verifies) {
  EXPECT_EQ(Run({"verify", run_}), 0);
  EXPECT_THAT(out_, HasSubstr("step-000010.E1.G1.A1: OK (6 tensors, 1 shards, 1 blocks"));
  EXPECT_THAT(out_, HasSubstr("step-000020.E1.G1.A2: OK"));
}

TEST_F(CheckpointCommandTest, NamesTheFirstBadBlock) {
  DamageStep20();
  EXPECT_EQ(Run({"verify", run_}), 1);
  EXPECT_THAT(out_, HasSubstr("step-000010.E1.G1.A1: OK"));
  EXPECT_THAT(out_, HasSubstr("CORRUPTION: shard-00000-of-00001.bin: block 0 (bytes 64 to "));
  EXPECT_EQ(Run({"verify", run_, "--step", "10"}), 0);
  EXPECT_EQ(Run({"verify", run_, "--step", "20"}), 1);
}

TEST_F(CheckpointCommandTest, SaysWhatIsNotThere) {
  EXPECT_EQ(Run({"verify", run_, "--step", "11"}), 1);
  EXPECT_THAT(err_, HasSubstr("no checkpoint of step 11"));
  EXPECT_EQ(Run({"list", run_ + "/nowhere"}), 1);
  EXPECT_THAT(err_, HasSubstr("nowhere: no such directory"));
  EXPECT_EQ(Run({"list", dir_.path()}), 1);
  EXPECT_THAT(err_, HasSubstr("name a run directory"));
}

TEST_F(CheckpointCommandTest, WrongUse) {
  EXPECT_EQ(Run({"lst", run_}), 2);
  EXPECT_THAT(err_, HasSubstr("did you mean 'list'?"));
  EXPECT_EQ(Run({"list"}), 2);
}

}  // namespace
}  // namespace weft
