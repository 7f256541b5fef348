// A run from its start to its end, its stops by signals on the way, and what `weft status` says of it.
#include "tests/cli/control_plane.h"

#include <signal.h>

#include "cluster/base/file_system.h"

namespace weft::testing {
namespace {

using std::chrono::seconds;

TEST_F(ControlPlane, ARunToTheEndLeavesWhatItShould) {
  const ProgramResult result = Train("a");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("starting from init"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("done: the run is complete, 20 steps"), std::string::npos);
  EXPECT_EQ(Losses("a").size(), 20u);
  EXPECT_EQ(Events("a", "checkpoint_committed").size(), 4u);
  EXPECT_EQ(Lines("a", "steps.jsonl").front().at("metrics").at("lr"), 0.001);
  EXPECT_TRUE(PosixFileSystem()->Exists(dir_ / "a/eval.json"));
  EXPECT_TRUE(PosixFileSystem()->Exists(dir_ / "a/recipe.textproto"));
  EXPECT_EQ(PosixFileSystem()->ListDir(dir_ / "a/tb")->size(), 1u);
  EXPECT_FALSE(PosixFileSystem()->Exists(dir_ / "a/coord/endpoint"));
}

TEST_F(ControlPlane, AFinishedRunSaysSo) {
  ASSERT_EQ(Train("a").exit_code, 0);
  const ProgramResult again = Train("a");
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_NE(again.output.find("is finished"), std::string::npos) << again.output;
  EXPECT_EQ(Lines("a", "steps.jsonl").size(), 20u);
}

TEST_F(ControlPlane, SigtermSavesAndStopsAndTheRunGoesOn) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  Program train(TrainArgs("a"), dir_.path());
  ASSERT_TRUE(WaitForStep("a", 7));
  train.Signal(SIGTERM);
  const ProgramResult stopped = train.Wait(seconds(10));
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  const int64_t last = Losses("a").rbegin()->first;
  EXPECT_LT(last, 20);
  const ProgramResult resumed = Train("a");
  EXPECT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("resuming from step " + std::to_string(last) + ", committed"),
            std::string::npos)
      << resumed.output;
  EXPECT_EQ(Lines("a", "steps.jsonl").size(), 20u);  // no step was done twice
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(ControlPlane, ASecondSignalEndsItAtOnce) {
  ::setenv("WEFT_FAKE_FAULT", "hang:1:3", 1);
  Program train(TrainArgs("a"), dir_.path());
  ASSERT_TRUE(WaitForStep("a", 3));
  train.Signal(SIGINT);
  ASSERT_TRUE(train.WaitForOutput("SIGINT", seconds(5)));
  train.Signal(SIGINT);
  const TimePoint start = Clock::now();
  EXPECT_EQ(train.Wait(seconds(10)).exit_code, 1);
  EXPECT_LT(Clock::now() - start, seconds(3));
}

TEST_F(ControlPlane, AnotherLayoutMayResume) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  Program train(TrainArgs("a"), dir_.path());
  ASSERT_TRUE(WaitForStep("a", 6));
  train.Signal(SIGTERM);
  EXPECT_EQ(train.Wait(seconds(10)).exit_code, 75);
  const ProgramResult resumed = Train("a", {"--set", "layout.dp=1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(ControlPlane, StatusShowsALiveRunAndOneAtRest) {
  ::setenv("WEFT_FAKE_STEP_MS", "50", 1);
  {
    Program train(TrainArgs("a"), dir_.path());
    ASSERT_TRUE(WaitForStep("a", 6));
    const ProgramResult json = Weft({"status", "a", "--json"});
    ASSERT_EQ(json.exit_code, 0) << json.output;
    const auto status = nlohmann::json::parse(json.output);
    EXPECT_EQ(status.at("phase"), "running");
    EXPECT_GE(status.at("step"), 6);
    EXPECT_EQ(status.at("members").size(), 2u);
    EXPECT_EQ(status.at("checkpoints").at(0).at("step"), 5);
    const ProgramResult table = Weft({"status", "a"});
    EXPECT_NE(table.output.find("of 20, loss"), std::string::npos) << table.output;
    EXPECT_EQ(train.Wait(seconds(20)).exit_code, 0);
  }
  const ProgramResult rest = Weft({"status", "a"});
  EXPECT_NE(rest.output.find("no coordinator is running"), std::string::npos) << rest.output;
  EXPECT_NE(rest.output.find("step 20"), std::string::npos) << rest.output;
  EXPECT_EQ(Weft({"status", "nowhere"}).exit_code, 1);
}

}  // namespace
}  // namespace weft::testing
