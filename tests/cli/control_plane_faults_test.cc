// What goes wrong in a run: workers that die, fail and hang, saves that fail, a full disk. The losses stay those of a run that
// nothing happened to.
#include <signal.h>
#include <sys/mount.h>

#include "cluster/base/file_system.h"
#include "tests/cli/control_plane.h"

namespace weft::testing {
namespace {

using std::chrono::seconds;

TEST_F(ControlPlane, AKilledWorkerChangesNoLoss) {
  const std::string reference = Uninterrupted();
  for (const char* fault : {"kill:rank=1,step=1", "kill:rank=0,step=7", "kill:rank=1,step=10"}) {
    const std::string run = std::string("run-") + fault;
    const ProgramResult result = Train(run, {"--inject", fault});
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_NE(result.output.find("was killed by signal 9"), std::string::npos) << result.output;
    EXPECT_EQ(Losses(run)[20], reference) << fault;
    ASSERT_EQ(Events(run, "worker_lost").size(), 1u) << fault;
    ASSERT_EQ(Events(run, "recovered").size(), 1u) << fault;
    EXPECT_LT(Events(run, "recovered")[0].at("seconds"), 5.0);
  }
}

TEST_F(ControlPlane, AKillFromOutsideIsSeenWithinASecond) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  Program train(TrainArgs("a"), dir_.path());
  ASSERT_TRUE(WaitForStep("a", 8));
  ASSERT_EQ(Workers("1").size(), 1u);
  const double killed =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  ::kill(Workers("1")[0], SIGKILL);
  const ProgramResult result = train.Wait(seconds(30));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  ASSERT_EQ(Events("a", "worker_lost").size(), 1u);
  EXPECT_LT(Events("a", "worker_lost")[0].at("time").get<double>() - killed, 1.0);
  EXPECT_NE(result.output.find("resumed from step 5"), std::string::npos) << result.output;
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(ControlPlane, ACrashLoopGivesUpWith93) {
  ::setenv("WEFT_FAKE_FAULT", "abort:1:3", 1);
  const ProgramResult result = Train("a");
  EXPECT_EQ(result.exit_code, 93) << result.output;
  EXPECT_NE(result.output.find("without a new checkpoint"), std::string::npos) << result.output;
  EXPECT_EQ(Events("a", "worker_lost").size(), 3u);
}

TEST_F(ControlPlane, WhatNoRestartCuresIsNotRestarted) {
  ::setenv("WEFT_FAKE_FAULT", "recipe:0:2", 1);
  const ProgramResult result = Train("a");
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_NE(result.output.find("vision_width: 7 is odd"), std::string::npos);
  EXPECT_EQ(Events("a", "generation_started").size(), 1u);
}

TEST_F(ControlPlane, AHangIsFoundNamedAndCured) {
  ::setenv("WEFT_FAKE_FAULT", "hang:1:9:1", 1);
  const ProgramResult result = Train("a", {"--set", "run.hang_floor_s=1"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  ASSERT_EQ(Events("a", "worker_lost").size(), 1u);
  const auto verdict = Events("a", "worker_lost")[0].at("text").get<std::string>();
  EXPECT_NE(verdict.find("rank 1"), std::string::npos) << verdict;
  // With what the ranks did last.
  EXPECT_NE(verdict.find("its last operation: #0 exchange of rank 1 (0 B), running for"),
            std::string::npos)
      << verdict;
  std::ifstream file(dir_ / "a/logs/operations.g1.log");
  const std::string operations((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(operations.find("rank 0:\n  #0 exchange of rank 0"), std::string::npos) << operations;
}

TEST_F(ControlPlane, AFailedSaveDoesNotEndTraining) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_FAULT", "save:1:5", 1);
  const ProgramResult result = Train("a");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(Events("a", "checkpoint_failed").size(), 1u);
  EXPECT_EQ(Events("a", "checkpoint_committed").size(), 3u);
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(ControlPlane, AFullDiskDoesNotEndTraining) {
  const std::string reference = Uninterrupted();
  const std::string disk = dir_ / "disk";
  ASSERT_TRUE(PosixFileSystem()->MakeDirs(disk).ok());
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "a small tmpfs needs the right to mount";
  }
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  {
    Program train(TrainArgs("disk"), dir_.path());
    EXPECT_TRUE(WaitForStep("disk", 6));
    {
      std::ofstream ballast(disk + "/ballast", std::ios::binary);
      while (ballast.write(std::string(4096, 'x').data(), 4096).flush()) {
      }
    }
    EXPECT_TRUE(train.WaitForOutput("training goes on", seconds(10))) << train.Output();
    EXPECT_TRUE(PosixFileSystem()->Remove(disk + "/ballast").ok());
    const ProgramResult result = train.Wait(seconds(20));
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(Losses("disk")[20], reference);
    const ProgramResult verify = Weft({"checkpoint", "verify", "disk"});
    EXPECT_EQ(verify.exit_code, 0) << verify.output;
  }
  ::umount2(disk.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace weft::testing
