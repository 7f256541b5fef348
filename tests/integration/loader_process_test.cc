// `weft train --loader process`: the losses of a loader in threads, whatever happens to the loader's process.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "cluster/base/loader_segment.h"
#include "tests/integration/tiny_run.h"
#include "tests/support/report.h"

namespace weft::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Live loaders of this directory's runs.
std::vector<pid_t> Loaders(const TinyRun& tiny) {
  std::vector<pid_t> mine;
  for (const pid_t pid : FindProcesses({"loader", "--memory-fd"})) {
    std::error_code error;
    const auto cwd = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/cwd", error);
    if (cwd == tiny.directory()) mine.push_back(pid);
  }
  return mine;
}

// Descriptors of a process, and those of loaders' memory among them.
std::pair<int64_t, int64_t> CountFiles(pid_t pid) {
  int64_t files = 0;
  int64_t memories = 0;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    ++files;
    const std::string target = std::filesystem::read_symlink(entry.path(), error);
    memories += target.find("memfd:weft-loader") != std::string::npos ? 1 : 0;
  }
  return {files, memories};
}

void WaitForRecords(const TinyRun& tiny, const std::string& run, int64_t records) {
  for (int i = 0; i < 6000 && tiny.NumStepRecords(run) < records; ++i)
    std::this_thread::sleep_for(milliseconds(10));
}

bool IsStopped(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  std::getline(file, stat);
  const size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.compare(name_end, 3, ") T") == 0;
}

// The worker that `--inject stop:...` has stopped, or -1 after a minute.
pid_t AwaitStoppedWorker(const TinyRun& tiny) {
  for (int i = 0; i < 6000; ++i) {
    for (const pid_t pid : tiny.Workers()) {
      if (IsStopped(pid)) return pid;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return -1;
}

const std::vector<std::string> kProcess = {"--loader", "process"};

TEST(LoaderProcess, TrainsTheSameAndSurvivesWorkersOnAnyLayout) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("threads").exit_code, 0);
  const auto expected = tiny.LossBits("threads");
  ASSERT_EQ(expected.size(), 24u);
  const std::vector<std::vector<std::string>> extras = {
      {"--inject", "kill:rank=1,step=9"},
      {"--set", "layout.dp=2", "--set", "layout.pp=2", "--set", "eval.retrieval=false"}};
  for (size_t i = 0; i < extras.size(); ++i) {
    std::vector<std::string> args = kProcess;
    args.insert(args.end(), extras[i].begin(), extras[i].end());
    const std::string run = "process-" + std::to_string(i);
    const ProgramResult result = tiny.Train(run, args);
    ASSERT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(tiny.LossBits(run), expected) << run;
    EXPECT_TRUE(Loaders(tiny).empty());
  }
}

// What the agent's segment says of its loaders.
class LoaderView {
 public:
  explicit LoaderView(pid_t agent) {
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(agent) + "/fd", error)) {
      const std::string target = std::filesystem::read_symlink(entry.path(), error);
      if (target.find("memfd:weft-loader") == std::string::npos) continue;
      auto segment = LoaderSegment::Adopt(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
      EXPECT_TRUE(segment.ok()) << segment.status();
      if (segment.ok()) segment_ = std::move(*segment);
      return;
    }
  }
  bool found() const { return segment_ != nullptr; }
  uint64_t progress() const { return segment_->front().progress; }
  uint64_t starts() const { return segment_->front().starts; }

 private:
  std::unique_ptr<LoaderSegment> segment_;
};

// What is done to a loader, one thing after the other. Each waits until the loader has got somewhere since the last one: a
// loader that dies again and again before it does anything is given up, as it should be.
class Chaos {
 public:
  Chaos(const TinyRun& tiny, pid_t agent, bool long_stop)
      : tiny_(tiny), view_(agent), long_stop_(long_stop) {}

  // False: no progress within two minutes.
  bool AwaitProgress() {
    for (int i = 0; i < 12000 && view_.progress() == progress_; ++i)
      std::this_thread::sleep_for(milliseconds(10));
    const bool moved = view_.progress() != progress_;
    progress_ = view_.progress();
    return moved;
  }

  // Kills the loader. False: no other one is there within a minute.
  bool KillAndAwaitAnother() {
    const uint64_t starts = view_.starts();
    for (const pid_t pid : Loaders(tiny_)) {
      ++kills;
      ::kill(pid, SIGKILL);
    }
    for (int i = 0; i < 6000 && (view_.starts() == starts || Loaders(tiny_).empty()); ++i)
      std::this_thread::sleep_for(milliseconds(10));
    return view_.starts() > starts;
  }

  void Strike() {
    for (const pid_t pid : Loaders(tiny_)) {
      const int kind = long_stop_ && stops == 0 ? 1 : static_cast<int>(random_() % 3);
      if (kind == 0) {
        ++kills;
        ::kill(pid, SIGKILL);
      } else if (kind == 1) {
        Stop(pid, long_stop_ && stops == 0 ? seconds(10) : milliseconds(random_() % 300));
        ++stops;
      } else {
        // A tenth of a core.
        for (int i = 0; i < (long_stop_ ? 20 : 4); ++i) {
          Stop(pid, milliseconds(90));
          std::this_thread::sleep_for(milliseconds(10));
        }
        ++starvations;
      }
    }
    std::this_thread::sleep_for(milliseconds(random_() % 200));
  }

  int64_t kills = 0;
  int64_t stops = 0;
  int64_t starvations = 0;

 private:
  static void Stop(pid_t pid, milliseconds time) {
    ::kill(pid, SIGSTOP);
    std::this_thread::sleep_for(time);
    ::kill(pid, SIGCONT);
  }

  const TinyRun& tiny_;
  const LoaderView view_;
  const bool long_stop_;
  std::mt19937 random_{7};
  uint64_t progress_ = 0;
};

// `make bench-loader` takes more steps, a stop of 10 s, and writes loader-faults.json.
TEST(LoaderProcess, KilledStoppedAndStarvedAtRandomLeavesNoTraceAndNoFile) {
  const int64_t steps = WantsReports() ? 200 : 60;
  TinyRun tiny;
  const std::vector<std::string> longer = {"--set", "steps=" + std::to_string(steps), "--set",
                                           "eval.retrieval=false"};
  ASSERT_EQ(tiny.Train("threads", longer).exit_code, 0);
  std::vector<std::string> args = longer;
  args.insert(args.end(), kProcess.begin(), kProcess.end());
  // Rank 1 stands still from step 2 on, and with it the run: the first strike surely comes before the end.
  args.insert(args.end(), {"--inject", "stop:rank=1,step=2"});
  Program program(tiny.TrainArgs("process", args), tiny.directory());
  const pid_t held = AwaitStoppedWorker(tiny);
  ASSERT_GT(held, 0) << program.Output();
  const auto files = CountFiles(program.pid());
  ASSERT_EQ(files.second, 1) << program.Output();
  Chaos chaos(tiny, program.pid(), WantsReports());
  EXPECT_TRUE(chaos.KillAndAwaitAnother()) << program.Output();
  // Of the run as it was last seen under way: it may end while a loader is on its knees.
  auto files_after = CountFiles(program.pid());
  int counts = 1;
  const int64_t still_to_come = steps - tiny.NumStepRecords("process");
  ::kill(held, SIGCONT);
  while (tiny.NumStepRecords("process") < steps - 10 && chaos.AwaitProgress()) {
    chaos.Strike();
    const auto now = CountFiles(program.pid());
    if (tiny.NumStepRecords("process") >= steps) break;
    files_after = now;
    ++counts;
  }
  EXPECT_GT(still_to_come, steps / 2);
  EXPECT_GT(chaos.kills, 0);
  EXPECT_EQ(files_after.second, 1);
  EXPECT_LE(files_after.first, files.first + 4) << "of the agent";
  const ProgramResult result = program.Wait(seconds(200));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const bool equal = tiny.LossBits("process") == tiny.LossBits("threads");
  EXPECT_TRUE(equal);
  EXPECT_EQ(tiny.NumStepRecords("process"), steps) << "steps were repeated";
  EXPECT_TRUE(Loaders(tiny).empty());
  WriteReport("loader-faults", {{"steps", steps},
                                {"kills", chaos.kills},
                                {"stops", chaos.stops},
                                {"longest_stop_s", WantsReports() ? 10 : 0.3},
                                {"starvations", chaos.starvations},
                                {"loss_bits_equal", equal},
                                {"steps_to_come_after_first_kill", still_to_come},
                                {"counts_of_files_under_way", counts},
                                {"agent_files_before", files.first},
                                {"agent_files_after", files_after.first},
                                {"agent_memfds_after", files_after.second},
                                {"loaders_left", Loaders(tiny).size()}});
}

TEST(LoaderProcess, StoppedRunGoesOnUnderAnotherLayout) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("threads").exit_code, 0);
  std::vector<std::string> args = kProcess;
  args.insert(args.end(), {"--set", "run.checkpoint_every=0"});
  {
    Program program(tiny.TrainArgs("process", args), tiny.directory());
    WaitForRecords(tiny, "process", 5);
    program.Signal(SIGTERM);
    const ProgramResult result = program.Wait(seconds(60));
    ASSERT_EQ(result.exit_code, 75) << result.output;
  }
  EXPECT_TRUE(Loaders(tiny).empty());
  args.insert(args.end(), {"--set", "layout.dp=3"});
  const ProgramResult resumed = tiny.Train("process", args);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_EQ(tiny.LossBits("process"), tiny.LossBits("threads"));
}

}  // namespace
}  // namespace weft::testing
