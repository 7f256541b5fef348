// Training with mpirun as the launcher and MPI between the ranks: the losses of `weft train` over tcp, also after a kill.
#include <gtest/gtest.h>
#include <signal.h>

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

// A stop saves, and a kill of the whole tree leaves nobody, though mpirun stands between.
TEST(MpiTrain, StopSavesAndAKilledTreeLeavesNoWorker) {
  TinyRun tiny;
  const std::vector<std::string> flags = {"--set", "layout.backend=MPI", "--set", "steps=400"};
  const auto train_until = [&](int64_t records, int signal) {
    Program program(tiny.TrainArgs("mpi", flags), tiny.directory());
    for (int i = 0; i < 6000 && tiny.NumStepRecords("mpi") < records; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    program.Signal(signal);
    return program.Wait(std::chrono::seconds(60));
  };
  const ProgramResult stopped = train_until(5, SIGTERM);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  const int64_t records = tiny.NumStepRecords("mpi");
  EXPECT_EQ(train_until(records + 5, SIGKILL).exit_code, 128 + SIGKILL);
  for (int i = 0; i < 1000 && !tiny.Workers().empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(tiny.Workers().empty());
  EXPECT_GT(tiny.NumStepRecords("mpi"), records);
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
