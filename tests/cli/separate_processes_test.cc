// `weft coordinator` and `weft agent` as processes of their own: each of them dies, and strangers are refused.
#include <signal.h>

#include <filesystem>

#include "cluster/base/file_system.h"
#include "coordinator/run_directory.h"
#include "tests/cli/control_plane.h"

namespace weft::testing {
namespace {

using std::chrono::seconds;

class SeparateProcesses : public ControlPlane {
 protected:
  std::vector<std::string> CoordinatorArgs() {
    return {WEFT_PROGRAM, "coordinator", "recipe.textproto", "--run-dir", "a"};
  }
  std::vector<std::string> AgentArgs() {
    return {WEFT_PROGRAM, "agent", "--run-dir",        "a",
            "--capacity", "2",     "--worker-program", dir_ / "fake-worker"};
  }
};

TEST_F(SeparateProcesses, ACoordinatorAndTwoAgentsRunToTheEnd) {
  const std::string reference = Uninterrupted();
  Program coordinator(CoordinatorArgs(), dir_.path());
  std::vector<std::string> args = AgentArgs();
  args[5] = "1";
  Program first(args, dir_.path());
  Program second(args, dir_.path());
  const ProgramResult result = coordinator.Wait(seconds(20));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(first.Wait(seconds(5)).exit_code, 0) << first.Output();
  EXPECT_EQ(second.Wait(seconds(5)).exit_code, 0) << second.Output();
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(SeparateProcesses, AKilledAgentTakesItsWorkersAndAnotherOneGoesOn) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  Program coordinator(CoordinatorArgs(), dir_.path());
  {
    Program agent(AgentArgs(), dir_.path());
    ASSERT_TRUE(WaitForStep("a", 7));
    agent.Signal(SIGKILL);
    EXPECT_TRUE(NoWorkersWithin(seconds(2)));
  }
  Program agent(AgentArgs(), dir_.path());
  const ProgramResult result = coordinator.Wait(seconds(20));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(agent.Wait(seconds(5)).exit_code, 0);
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(SeparateProcesses, AKilledCoordinatorEndsAllAndTheNextOneResumes) {
  const std::string reference = Uninterrupted();
  ::setenv("WEFT_FAKE_STEP_MS", "30", 1);
  {
    Program coordinator(CoordinatorArgs(), dir_.path());
    Program agent(AgentArgs(), dir_.path());
    ASSERT_TRUE(WaitForStep("a", 7));
    coordinator.Signal(SIGKILL);
    EXPECT_EQ(agent.Wait(seconds(5)).exit_code, 1) << agent.Output();
    EXPECT_TRUE(NoWorkersWithin(seconds(2)));
  }
  const ProgramResult result = Train("a");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("resuming from step 5"), std::string::npos) << result.output;
  EXPECT_EQ(Losses("a")[20], reference);
}

TEST_F(SeparateProcesses, AWrongTokenIsRefused) {
  Program coordinator(CoordinatorArgs(), dir_.path());
  ASSERT_TRUE(coordinator.WaitForOutput("listening on ", seconds(5)));
  const auto where = ReadRunEndpoint(PosixFileSystem(), dir_ / "a");
  ASSERT_TRUE(where.ok()) << where.status();
  const std::string address = where->endpoint.ToString();
  const ProgramResult agent = Weft({"agent", "--coordinator", address, "--token", "guess"});
  EXPECT_EQ(agent.exit_code, 1);
  EXPECT_NE(agent.output.find("wrong run token"), std::string::npos) << agent.output;
  const ProgramResult status = Weft({"status", address, "--token", "guess"});
  EXPECT_EQ(status.exit_code, 1);
  EXPECT_NE(status.output.find("wrong run token"), std::string::npos) << status.output;
  EXPECT_EQ(Weft({"status", address, "--token", where->run_token}).exit_code, 0);
}

TEST_F(SeparateProcesses, TheEndpointIsForItsOwnerOnly) {
  Program coordinator(CoordinatorArgs(), dir_.path());
  ASSERT_TRUE(coordinator.WaitForOutput("listening on ", seconds(5)));
  const auto permissions = std::filesystem::status(dir_ / "a/coord/endpoint").permissions();
  EXPECT_EQ(permissions, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

}  // namespace
}  // namespace weft::testing
