#include "cluster/launch/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <thread>

#include "cluster/base/file_system.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using std::chrono::milliseconds;

bool Lives(pid_t pid) { return ::kill(pid, 0) == 0; }

// Gone, or a zombie whose new parent has not reaped it yet, within two seconds.
bool EndsSoon(pid_t pid) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(2);
  while (Clock::now() < deadline) {
    FILE* stat = ::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "r");
    if (stat == nullptr) return true;
    char state = 'X';
    const int fields = ::fscanf(stat, "%*d %*s %c", &state);
    ::fclose(stat);
    if (fields != 1 || state == 'Z' || state == 'X') return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

class ProcessTest : public ::testing::Test {
 protected:
  // Runs until the child has ended.
  ProcessExit RunToExit(const ProcessOptions& options) {
    EventLoop loop;
    std::optional<ProcessExit> exit;
    auto child = ChildProcess::Spawn(&loop, options, [&](ProcessExit e) {
      exit = e;
      loop.Stop();
    });
    if (!child.ok()) {
      ADD_FAILURE() << child.status();
      return {};
    }
    const auto guard = loop.After(std::chrono::seconds(10), [&] { loop.Stop(); });
    loop.Run();
    EXPECT_TRUE(exit.has_value());
    return exit.value_or(ProcessExit{});
  }
  static ProcessOptions Shell(const std::string& script) {
    return {.argv = {"/bin/sh", "-c", script}};
  }
  testing::TempDir dir_;
};

TEST_F(ProcessTest, TellsTheExitCode) { EXPECT_EQ(RunToExit(Shell("exit 7")).exit_code, 7); }

TEST_F(ProcessTest, TellsTheSignal) {
  const ProcessExit exit = RunToExit(Shell("kill -9 $$"));
  EXPECT_EQ(exit.signal, SIGKILL);
}

TEST_F(ProcessTest, SetsEnvironmentAndLog) {
  ProcessOptions options = Shell("echo \"$WEFT_TEST_VALUE\"; echo err >&2");
  options.env = {{"WEFT_TEST_VALUE", "x y"}};
  options.log_path = dir_ / "log";
  EXPECT_EQ(RunToExit(options).exit_code, 0);
  EXPECT_EQ(*PosixFileSystem()->ReadFile(dir_ / "log"), "x y\nerr\n");
}

TEST_F(ProcessTest, KeepsTheDescriptorsThatItShouldAndNoOther) {
  const int kept = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int other = ::open("/dev/null", O_RDONLY);
  ProcessOptions options = Shell("test -e /proc/self/fd/" + std::to_string(kept) +
                                 " && ! test -e /proc/self/fd/" + std::to_string(other));
  options.inherited_fds = {kept};
  EXPECT_EQ(RunToExit(options).exit_code, 0);
  ::close(kept);
  ::close(other);
}

TEST_F(ProcessTest, AProgramThatIsNotThereIsAnError) {
  EventLoop loop;
  const auto child = ChildProcess::Spawn(&loop, {.argv = {"/no/such/program"}}, [](ProcessExit) {});
  EXPECT_EQ(child.status().code(), StatusCode::kNotFound);
  EXPECT_NE(child.status().message().find("/no/such/program"), std::string::npos);
}

TEST_F(ProcessTest, TheDestructorKillsAndReaps) {
  EventLoop loop;
  auto child = ChildProcess::Spawn(&loop, Shell("sleep 60"), [](ProcessExit) { ADD_FAILURE(); });
  ASSERT_TRUE(child.ok());
  const pid_t pid = (*child)->pid();
  EXPECT_TRUE(Lives(pid));
  child->reset();
  EXPECT_FALSE(Lives(pid));
}

TEST_F(ProcessTest, WhatTheChildStartedGoesWithIt) {
  const std::string file = dir_ / "pid";
  RunToExit(Shell("sleep 60 & echo $! > " + file));
  const pid_t grandchild = std::stoi(*PosixFileSystem()->ReadFile(file));
  EXPECT_TRUE(EndsSoon(grandchild));
}

TEST_F(ProcessTest, TheChildDiesWithTheThreadThatStartedIt) {
  // A process of its own starts the child and is killed, as an agent by kill -9.
  const std::string file = dir_ / "pid";
  const pid_t parent = ::fork();
  if (parent == 0) {
    EventLoop loop;
    auto child = ChildProcess::Spawn(&loop, Shell("exec sleep 60"), [](ProcessExit) {});
    const std::string text = std::to_string((*child)->pid());
    (void)WriteFileDurably(PosixFileSystem(), file, text);
    loop.Run();
    ::_exit(0);
  }
  while (!PosixFileSystem()->Exists(file)) std::this_thread::sleep_for(milliseconds(5));
  const pid_t child = std::stoi(*PosixFileSystem()->ReadFile(file));
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  EXPECT_TRUE(EndsSoon(child));
}

}  // namespace
}  // namespace weft
