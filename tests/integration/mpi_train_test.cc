// Training with mpirun as the launcher and MPI between the ranks: the losses of `weft train` over tcp, also after a kill.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/integration/tiny_run.h"
#include "tests/support/mpi_ranks.h"

namespace weft::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(MpiTrain, WeftTrainOverMpiHasTheLossesOfTcpAlsoAfterAKill) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("tcp").exit_code, 0);
  const ProgramResult mpi =
      tiny.Train("mpi", {"--set", "layout.backend=MPI", "--inject", "kill:rank=1,step=9"});
  ASSERT_EQ(mpi.exit_code, 0) << mpi.output << ReadFile(tiny.Path("mpi/logs/mpirun.log"));
  EXPECT_EQ(tiny.LossBits("mpi"), tiny.LossBits("tcp"));
  const std::string events = ReadFile(tiny.Path("mpi/events.jsonl"));
  EXPECT_NE(events.find("was killed by signal 9"), std::string::npos) << events;
  EXPECT_NE(events.find("recovered"), std::string::npos) << events;
  EXPECT_TRUE(tiny.Workers().empty());
}

// As on a site that has mpirun: the coordinator by itself, and the agents of a pipeline of two, twice, by one mpirun.
TEST(MpiTrain, AgentsUnderMpirunFindTheirCoordinator) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("tcp").exit_code, 0);
  Program coordinator({WEFT_PROGRAM, "coordinator", "recipe.textproto", "--run-dir", "mpi", "--set",
                       "layout.backend=MPI", "--set", "layout.pp=2"},
                      tiny.directory());
  std::vector<std::string> argv = {"/usr/bin/env"};
  for (const std::string& variable : MpirunEnvironment()) argv.push_back(variable);
  for (const char* word : {"mpirun", "-n", "4", WEFT_PROGRAM, "agent", "--run-dir", "mpi"})
    argv.push_back(word);
  Program agents(argv, tiny.directory());
  const ProgramResult result = coordinator.Wait(std::chrono::seconds(120));
  EXPECT_EQ(result.exit_code, 0) << result.output << agents.Output();
  const ProgramResult launcher = agents.Wait(std::chrono::seconds(20));
  EXPECT_EQ(launcher.exit_code, 0) << launcher.output;
  EXPECT_EQ(tiny.LossBits("mpi"), tiny.LossBits("tcp"));
}

TEST(MpiTrain, WithoutMpirunOneClearMessage) {
  TinyRun tiny;
  // Agents that no mpirun has started.
  Program coordinator({WEFT_PROGRAM, "coordinator", "recipe.textproto", "--run-dir", "mpi", "--set",
                       "layout.backend=MPI"},
                      tiny.directory());
  Program agent({WEFT_PROGRAM, "agent", "--run-dir", "mpi", "--capacity", "2"}, tiny.directory());
  const ProgramResult result = coordinator.Wait(std::chrono::seconds(60));
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_NE(result.output.find("mpirun -n 2 weft agent"), std::string::npos) << result.output;

  const ProgramResult train =
      RunProgram({"/usr/bin/env", "PATH=/nowhere", WEFT_PROGRAM, "train", "recipe.textproto",
                  "--run-dir", "train", "--set", "layout.backend=MPI"},
                 tiny.directory());
  EXPECT_EQ(train.exit_code, 1) << train.output;
  EXPECT_NE(train.output.find("mpirun, which is not in PATH"), std::string::npos) << train.output;
}

}  // namespace
}  // namespace weft::testing
