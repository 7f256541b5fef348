// `weft train` from end to end, with real worker processes: the same losses for every number of ranks, after kills, stops
// and restarts.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/integration/tiny_run.h"

namespace weft::testing {
namespace {

using std::chrono::seconds;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the evaluation of a run found, without when.
std::string Evaluation(const TinyRun& tiny, const std::string& run) {
  const std::string text = ReadFile(tiny.Path(run + "/eval.json"));
  const size_t metrics = text.find("\"metrics\"");
  return metrics == std::string::npos ? "no evaluation" : text.substr(metrics);
}

// Waits until nobody of this run is left, as `weft train` promises when it returns.
void ExpectNoWorkers(const TinyRun& tiny) {
  for (int i = 0; i < 200 && !tiny.Workers().empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(tiny.Workers().empty());
}

TEST(Train, LossesAreTheSameForEveryNumberOfRanks) {
  TinyRun tiny;
  const ProgramResult one = tiny.Train("one", {"--set", "layout.dp=1"});
  ASSERT_EQ(one.exit_code, 0) << one.output;
  const auto expected = tiny.LossBits("one");
  ASSERT_EQ(expected.size(), 24u);
  for (const char* ranks : {"2", "3", "4"}) {
    const ProgramResult many = tiny.Train(ranks, {"--set", std::string("layout.dp=") + ranks});
    ASSERT_EQ(many.exit_code, 0) << many.output;
    EXPECT_EQ(tiny.LossBits(ranks), expected) << ranks << " ranks";
  }
  EXPECT_TRUE(std::filesystem::exists(tiny.Path("one/eval.json")));
}

// Pipelines and shards are layouts too: each of them, a kill in the middle, and a run that goes on under another one.
TEST(Train, LossesAreTheSameUnderEveryLayout) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("one", {"--set", "layout.dp=1"}).exit_code, 0);
  const auto expected = tiny.LossBits("one");
  const std::string recalls = Evaluation(tiny, "one");
  const std::vector<std::string> pipeline = {"--set",       "layout.dp=2", "--set",
                                             "layout.pp=2", "--set",       "layout.schedule=ZB_H1"};
  const std::vector<std::string> sharded = {"--set", "layout.dp=3", "--set", "layout.zero_stage=3"};
  const ProgramResult zero3 = tiny.Train("sharded", sharded);
  ASSERT_EQ(zero3.exit_code, 0) << zero3.output;
  EXPECT_EQ(tiny.LossBits("sharded"), expected);
  EXPECT_TRUE(Evaluation(tiny, "sharded") == recalls);

  std::vector<std::string> killed = pipeline;
  killed.insert(killed.end(), {"--inject", "kill:rank=3,step=9"});
  const ProgramResult result = tiny.Train("killed", killed);
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(tiny.LossBits("killed"), expected);
  EXPECT_TRUE(Evaluation(tiny, "killed") == recalls);
}

TEST(Train, KilledWorkerIsReplacedAndLossesStayTheSame) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("straight").exit_code, 0);
  for (const char* kill : {"kill:rank=0,step=3", "kill:rank=1,step=9", "kill:rank=1,step=20"}) {
    const std::string run = std::string("killed-") + (kill + 17);
    const ProgramResult result = tiny.Train(run, {"--inject", kill});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(tiny.LossBits(run), tiny.LossBits("straight")) << kill;
    const std::string events = ReadFile(tiny.Path(run + "/events.jsonl"));
    EXPECT_NE(events.find("recovered"), std::string::npos) << events;
  }
  ExpectNoWorkers(tiny);
}

TEST(Train, KilledTreeResumesByItselfAndLeavesNoWorker) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("straight").exit_code, 0);
  {
    Program program(tiny.TrainArgs("cut", {"--set", "run.checkpoint_every=4"}), tiny.directory());
    while (tiny.NumStepRecords("cut") < 10) {
      int waited = 0;
      ASSERT_LT(++waited, 100000);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    program.Signal(SIGKILL);
    EXPECT_EQ(program.Wait(seconds(10)).exit_code, 128 + SIGKILL);
  }
  ExpectNoWorkers(tiny);
  const ProgramResult resumed = tiny.Train("cut", {"--set", "run.checkpoint_every=4"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("esum"), std::string::npos) << resumed.output;
  EXPECT_EQ(tiny.LossBits("cut"), tiny.LossBits("straight"));
}

TEST(Train, SigtermSavesAndResumesOnAnotherNumberOfRanks) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("straight").exit_code, 0);
  {
    // No checkpoint but the one that the signal asks for.
    Program program(tiny.TrainArgs("stopped", {"--set", "run.checkpoint_every=0"}),
                    tiny.directory());
    while (tiny.NumStepRecords("stopped") < 5)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    program.Signal(SIGTERM);
    const ProgramResult result = program.Wait(seconds(60));
    ASSERT_EQ(result.exit_code, 75) << result.output;
  }
  const int64_t before = tiny.NumStepRecords("stopped");
  ASSERT_LT(before, 24);
  const ProgramResult resumed =
      tiny.Train("stopped", {"--set", "run.checkpoint_every=0", "--set", "layout.dp=4"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_EQ(tiny.NumStepRecords("stopped"), 24) << "steps were repeated or lost";
  EXPECT_EQ(tiny.LossBits("stopped"), tiny.LossBits("straight"));
}

TEST(Train, FinishedRunIsNotTrainedAgain) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("run").exit_code, 0);
  const int64_t records = tiny.NumStepRecords("run");
  const ProgramResult again = tiny.Train("run");
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(tiny.NumStepRecords("run"), records);
}

TEST(Train, CheckpointsListAndVerifyAndABitFlipIsNamed) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("run").exit_code, 0);
  const ProgramResult list = tiny.Weft({"checkpoint", "list", "run"});
  EXPECT_EQ(list.exit_code, 0) << list.output;
  EXPECT_NE(list.output.find("24"), std::string::npos) << list.output;
  EXPECT_EQ(tiny.Weft({"checkpoint", "verify", "run"}).exit_code, 0);

  std::string shard;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tiny.Path("run/ckpt"))) {
    const std::string path = entry.path();
    if (path.find("step-000024") != std::string::npos &&
        path.find("shard-00001") != std::string::npos)
      shard = path;
  }
  ASSERT_FALSE(shard.empty());
  std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(5000);
  const char byte = static_cast<char>(file.get() ^ 16);
  file.seekp(5000);
  file.put(byte);
  file.close();
  const ProgramResult verify = tiny.Weft({"checkpoint", "verify", "run"});
  EXPECT_EQ(verify.exit_code, 1) << verify.output;
  EXPECT_NE(verify.output.find("shard-00001"), std::string::npos) << verify.output;
}

TEST(Train, TwoMachinesWorthOfProcessesGiveTheSameLosses) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("straight").exit_code, 0);
  Program coordinator({WEFT_PROGRAM, "coordinator", "recipe.textproto", "--run-dir", "apart"},
                      tiny.directory());
  for (int i = 0; i < 1000 && !std::filesystem::exists(tiny.Path("apart/coord/endpoint")); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  // Two addresses of the loopback network stand for two machines.
  std::vector<std::string> agent = {WEFT_PROGRAM, "agent", "--run-dir",   "apart",
                                    "--capacity", "1",     "--data-host", "127.0.0.1"};
  Program first(agent, tiny.directory());
  agent.back() = "127.0.0.2";
  Program second(agent, tiny.directory());
  const ProgramResult result = coordinator.Wait(seconds(120));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_EQ(first.Wait(seconds(10)).exit_code, 0);
  EXPECT_EQ(second.Wait(seconds(10)).exit_code, 0);
  EXPECT_EQ(tiny.LossBits("apart"), tiny.LossBits("straight"));
}

TEST(Train, FrozenTowerAndStartFromACheckpoint) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("first").exit_code, 0);
  std::string manifest;
  for (const auto& entry : std::filesystem::directory_iterator(tiny.Path("first/ckpt"))) {
    const std::string name = entry.path().filename();
    if (name.find("MANIFEST-000024") == 0) manifest = "first/ckpt/" + name;
  }
  ASSERT_FALSE(manifest.empty());
  const std::vector<std::string> tune = {"--set", "init_from[0].checkpoint=" + manifest,
                                         "--set", "trainable=[visual.*]",
                                         "--set", "steps=8"};
  const ProgramResult two = tiny.Train("tuned", tune);
  ASSERT_EQ(two.exit_code, 0) << two.output;
  EXPECT_EQ(tiny.Weft({"checkpoint", "verify", "tuned"}).exit_code, 0);
  // It starts where the first run ended, not from init, and does not depend on the ranks either.
  EXPECT_NE(tiny.LossBits("tuned").at(1), tiny.LossBits("first").at(1));
  std::vector<std::string> one = tune;
  one.insert(one.end(), {"--set", "layout.dp=1", "--inject", "kill:rank=0,step=7"});
  const ProgramResult alone = tiny.Train("tuned-alone", one);
  ASSERT_EQ(alone.exit_code, 0) << alone.output;
  EXPECT_EQ(tiny.LossBits("tuned-alone"), tiny.LossBits("tuned"));
}

TEST(Train, BadInputIsOneClearMessage) {
  TinyRun tiny;
  const ProgramResult unknown = tiny.Train("a", {"--set", "optimizer.lrr=1"});
  EXPECT_EQ(unknown.exit_code, 2) << unknown.output;
  EXPECT_NE(unknown.output.find("optimizer.lr"), std::string::npos) << unknown.output;

  const ProgramResult ranks = tiny.Train("b", {"--set", "layout.dp=5"});
  EXPECT_EQ(ranks.exit_code, 2) << ranks.output;
  EXPECT_NE(ranks.output.find("layout.dp"), std::string::npos) << ranks.output;

  const ProgramResult missing = tiny.Train("c", {"--set", "data.train_shards[0]=nothing.tar"});
  EXPECT_NE(missing.exit_code, 0) << missing.output;
  EXPECT_NE(missing.output.find("nothing.tar"), std::string::npos) << missing.output;

  std::filesystem::resize_file(tiny.Path("train-000001.tar"), 3000);
  const ProgramResult torn = tiny.Train("d");
  EXPECT_NE(torn.exit_code, 0) << torn.output;
  EXPECT_NE(torn.output.find("train-000001.tar"), std::string::npos) << torn.output;
}

TEST(Train, SecondTrainOnALiveRunDirectorySaysWhoHoldsIt) {
  TinyRun tiny;
  Program program(tiny.TrainArgs("run", {"--set", "steps=400"}), tiny.directory());
  for (int i = 0; i < 2000 && tiny.NumStepRecords("run") < 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const ProgramResult second = tiny.Train("run", {"--set", "steps=400"});
  EXPECT_EQ(second.exit_code, 1) << second.output;
  EXPECT_NE(second.output.find(std::to_string(program.pid())), std::string::npos) << second.output;
}

}  // namespace
}  // namespace weft::testing
