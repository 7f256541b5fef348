// The control plane as a person meets it: `weft train`, `coordinator`, `agent` and `status` as processes, with real worker
// processes that do no arithmetic (fake_worker.cc) but speak, save and resume for real.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/rpc/endpoint.h"
#include "coordinator/run_directory.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace weft::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Test;

constexpr char kRecipe[] = R"(
name: "control"
steps: 20
model { clip { embed_dim: 24 image_size: 32 patch_size: 8 vision_width: 64 vision_layers: 1 vision_heads: 1
               context_length: 12 vocab_size: 514 text_width: 64 text_layers: 1 text_heads: 2 } }
batch { slots: 2 micro_batch_size: 2 }
data { train_shards: "train.tar" vocabulary: "vocab.txt" }
optimizer { lr: 1e-3 }
layout { dp: 2 }
run { checkpoint_every: 5 }
)";

class ControlPlane : public Test {
 protected:
  void SetUp() override {
    Write("recipe.textproto", kRecipe);
    Write("train.tar", std::string(10240, '\0'));
    Write("vocab.txt", "#version: 0.2\n");
    // Through a name in this test's own directory, its workers can be told from others'.
    ASSERT_EQ(::symlink(WEFT_FAKE_WORKER, (dir_ / "fake-worker").c_str()), 0);
    ::unsetenv("WEFT_FAKE_FAULT");
    ::setenv("WEFT_FAKE_STEP_MS", "5", 1);
  }
  void TearDown() override {
    ::unsetenv("WEFT_FAKE_FAULT");
    EXPECT_TRUE(NoWorkersWithin(seconds(2))) << "orphans";
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  std::vector<std::string> TrainArgs(const std::string& run, std::vector<std::string> extra = {}) {
    std::vector<std::string> args = {WEFT_PROGRAM,        "train", "recipe.textproto",
                                     "--run-dir",         run,     "--worker-program",
                                     dir_ / "fake-worker"};
    args.insert(args.end(), extra.begin(), extra.end());
    return args;
  }
  ProgramResult Train(const std::string& run, std::vector<std::string> extra = {}) {
    return RunProgram(TrainArgs(run, std::move(extra)), dir_.path(), seconds(30));
  }
  ProgramResult Weft(std::vector<std::string> args) {
    args.insert(args.begin(), WEFT_PROGRAM);
    return RunProgram(std::move(args), dir_.path(), seconds(30));
  }
  std::vector<pid_t> Workers(const std::string& rank = "") {
    std::vector<std::string> words = {dir_ / "fake-worker", "--control-fd"};
    if (!rank.empty()) words.push_back("--rank " + rank);
    std::vector<pid_t> found = FindProcesses(words);
    // `weft train` names the worker in its own command line, but no control fd.
    return found;
  }
  bool NoWorkersWithin(seconds timeout) {
    const TimePoint deadline = Clock::now() + timeout;
    while (Clock::now() < deadline) {
      if (Workers().empty()) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return Workers().empty();
  }
  std::vector<nlohmann::json> Lines(const std::string& run, const std::string& file) {
    std::ifstream in(dir_ / (run + "/" + file));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(in, line);) {
      lines.push_back(nlohmann::json::parse(line, nullptr, false));
    }
    return lines;
  }
  // step -> loss bits; the last record of a step wins.
  std::map<int64_t, std::string> Losses(const std::string& run) {
    std::map<int64_t, std::string> losses;
    for (const auto& line : Lines(run, "steps.jsonl"))
      losses[line.at("step")] = line.at("loss_bits");
    return losses;
  }
  std::vector<nlohmann::json> Events(const std::string& run, const std::string& kind) {
    std::vector<nlohmann::json> events;
    for (auto& line : Lines(run, "events.jsonl")) {
      if (line.is_object() && line.value("kind", "") == kind) events.push_back(line);
    }
    return events;
  }
  bool WaitForStep(const std::string& run, int64_t step) {
    const TimePoint deadline = Clock::now() + seconds(20);
    while (Clock::now() < deadline) {
      const auto losses = Losses(run);
      if (!losses.empty() && losses.rbegin()->first >= step) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }
  std::string Uninterrupted() {
    const ProgramResult result = Train("reference");
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return Losses("reference")[20];
  }

  TempDir dir_;
};

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

// ---- separate processes

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

// ---- status

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

// ---- wrong use

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
