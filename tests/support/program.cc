#include "tests/support/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace weft::testing {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

Program::Program(std::vector<std::string> argv, const std::string& directory) {
  char path[] = "/tmp/weft_program_XXXXXX";
  const int fd = ::mkstemp(path);
  output_path_ = path;
  std::vector<char*> pointers;
  for (std::string& argument : argv) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    if (::chdir(directory.c_str()) == 0) ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  ::close(fd);
}

Program::~Program() {
  if (!reaped_) {
    Signal(SIGKILL);
    int status = 0;
    Reap(&status, /*block=*/true);
  }
  ::unlink(output_path_.c_str());
}

void Program::Signal(int signal) const {
  if (!reaped_) ::kill(pid_, signal);
}

std::string Program::Output() const { return ReadAll(output_path_); }

bool Program::Reap(int* status, bool block) {
  if (!reaped_ && ::waitpid(pid_, &status_, block ? 0 : WNOHANG) == pid_) reaped_ = true;
  *status = status_;
  return reaped_;
}

bool Program::WaitForOutput(const std::string& text, std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    const bool ended = Reap(&status, /*block=*/false);
    if (Output().find(text) != std::string::npos) return true;
    if (ended) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

ProgramResult Program::Wait(std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int status = 0;
  while (!Reap(&status, /*block=*/false)) {
    if (std::chrono::steady_clock::now() > deadline) {
      Signal(SIGKILL);
      Reap(&status, /*block=*/true);
      return {-1, Output() + "\n(killed after the time ran out)"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), Output()};
}

ProgramResult RunProgram(std::vector<std::string> argv, const std::string& directory,
                         std::chrono::seconds timeout) {
  return Program(std::move(argv), directory).Wait(timeout);
}

std::vector<pid_t> FindProcesses(const std::vector<std::string>& words) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    std::string line = ReadAll(entry.path() / "cmdline");
    std::replace(line.begin(), line.end(), '\0', ' ');
    const bool all = std::all_of(words.begin(), words.end(), [&line](const std::string& word) {
      return line.find(word) != std::string::npos;
    });
    if (all) found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

}  // namespace weft::testing
