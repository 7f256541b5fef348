// What is refused before anything starts, with what message and exit code; and the commands that start nothing.
#include <unistd.h>

#include "cluster/base/file_system.h"
#include "cluster/rpc/endpoint.h"
#include "tests/cli/control_plane.h"

namespace weft::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(ControlPlane, AnImpossibleLayoutIsRefusedBeforeAnythingStarts) {
  const std::string rule =
      "weft train: --set: layout.dp = 4: a step has only batch.slots = 2 slots, and each "
      "data-parallel rank needs one; with 4 ranks dp 2 x pp 2 and pp 4 work\n";
  for (const bool check : {false, true}) {
    std::vector<std::string> args = {"--set", "layout.dp=4"};
    if (check) args.push_back("--check");
    const ProgramResult result = Train("refused", args);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.output, rule);
    EXPECT_FALSE(PosixFileSystem()->Exists(dir_ / "refused"));
  }
}

TEST_F(ControlPlane, ACheckSaysWhatWouldRunAndStartsNothing) {
  const ProgramResult result = Train("checked", {"--check", "--set", "layout.pp=2"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.output.find("recipe.textproto is fine (hash "), std::string::npos);
  EXPECT_NE(result.output.find("on 4 ranks: dp 2 x pp 2, ZeRO 1, ONE_F_ONE_B\n"), std::string::npos)
      << result.output;
  EXPECT_FALSE(PosixFileSystem()->Exists(dir_ / "checked"));
}

TEST_F(ControlPlane, ASecondTrainOnALiveRunNamesTheFirst) {
  ::setenv("WEFT_FAKE_STEP_MS", "50", 1);
  Program train(TrainArgs("a"), dir_.path());
  ASSERT_TRUE(WaitForStep("a", 1));
  const ProgramResult second = Train("a");
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_NE(second.output.find("pid " + std::to_string(train.pid())), std::string::npos)
      << second.output;
  EXPECT_EQ(train.Wait(seconds(20)).exit_code, 0);
}

TEST_F(ControlPlane, APortInUseNamesThePort) {
  const auto listener = ListenControl({"127.0.0.1", 0});
  const std::string port = std::to_string(listener->endpoint.port);
  const ProgramResult result = Train("a", {"--bind", "127.0.0.1:" + port});
  ::close(listener->fd);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("port " + port), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("--bind"), std::string::npos) << result.output;
}

TEST_F(ControlPlane, AnotherRecipeInARunDirectoryNamesTheFields) {
  ASSERT_EQ(Train("a").exit_code, 0);
  const ProgramResult result = Train("a", {"--set", "optimizer.lr=0.5"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.output.find("optimizer.lr: 0.001 -> 0.5"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("--run-dir"), std::string::npos) << result.output;
}

TEST_F(ControlPlane, ARunDirectoryThatCannotBeIsOneMessage) {
  Write("file", "x");
  const ProgramResult result = Train("file/run");
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.output.find("file/run"), std::string::npos) << result.output;
}

TEST_F(ControlPlane, AMissingWorkerProgramIsOneMessage) {
  const ProgramResult result = Train("a", {"--worker-program", "/no/such/worker"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.output.find("/no/such/worker"), std::string::npos) << result.output;
}

TEST_F(ControlPlane, WrongUseIsExitCodeTwoAndNamesWhatIsNear) {
  struct Case {
    std::vector<std::string> args;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {{"tarin"}, "train"},
      {{"train", "recipe.textproto", "--run-dri", "x"}, "--run-dir"},
      {{"train"}, "RECIPE"},
      {{"train", "none.textproto"}, "none.textproto"},
      {{"train", "recipe.textproto", "--set", "optimizer.lrr=1"}, "optimizer.lr"},
      {{"train", "recipe.textproto", "--inject", "kill"}, "kill:rank=1,step=33"},
      {{"train", "recipe.textproto", "--bind", "nohost"}, "host:port"},
      {{"agent"}, "--run-dir"},
      {{"agent", "--capacity", "0", "--run-dir", "a"}, "--capacity"},
  };
  for (const Case& c : cases) {
    const ProgramResult result = Weft(c.args);
    EXPECT_EQ(result.exit_code, 2) << c.args[0] << ": " << result.output;
    EXPECT_NE(result.output.find(c.expected), std::string::npos) << result.output;
  }
}

TEST_F(ControlPlane, EachCommandHasHelp) {
  for (const char* command : {"train", "coordinator", "agent", "status", "version"}) {
    const ProgramResult result = Weft({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_NE(result.output.find("Usage: weft " + std::string(command)), std::string::npos)
        << result.output;
  }
}

TEST_F(ControlPlane, PrintRecipeAndCheckStartNothing) {
  const ProgramResult print = Train("a", {"--print-recipe", "--set", "optimizer.lr=0.25"});
  EXPECT_EQ(print.exit_code, 0);
  EXPECT_NE(print.output.find("lr: 0.25"), std::string::npos) << print.output;
  const ProgramResult check = Train("a", {"--check"});
  EXPECT_EQ(check.exit_code, 0) << check.output;
  EXPECT_FALSE(PosixFileSystem()->Exists(dir_ / "a"));
}

TEST_F(ControlPlane, VersionAnswersAtOnceAndWithoutLibTorch) {
  const TimePoint start = Clock::now();
  const ProgramResult result = Weft({"version"});
  EXPECT_LT(Clock::now() - start,
            milliseconds(500));  // a person's 50 ms, and room for a busy machine
  EXPECT_EQ(result.exit_code, 0);
  const ProgramResult libraries = RunProgram({"/usr/bin/ldd", WEFT_PROGRAM}, dir_.path());
  EXPECT_EQ(libraries.exit_code, 0);
  EXPECT_EQ(libraries.output.find("torch"), std::string::npos) << libraries.output;
}

}  // namespace
}  // namespace weft::testing
