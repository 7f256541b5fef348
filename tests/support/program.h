// Runs the built programs as a person would: their output, their exit status, signals to them.
//
// Thread rule: one thread an object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace weft::testing {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal if a signal ended it, -1 if it ran out of time and was killed
  std::string output;  // stdout and stderr
};

class Program {
 public:
  // Starts argv in `directory`, output into a file of its own.
  Program(std::vector<std::string> argv, const std::string& directory);
  // Kills what still runs.
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // What it has printed so far.
  std::string Output() const;
  // Until `text` is in the output; false if the program ended or the time ran out before.
  bool WaitForOutput(const std::string& text, std::chrono::seconds timeout);
  ProgramResult Wait(std::chrono::seconds timeout);

 private:
  bool Reap(int* status, bool block);

  std::string output_path_;
  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = 0;
};

ProgramResult RunProgram(std::vector<std::string> argv, const std::string& directory,
                         std::chrono::seconds timeout = std::chrono::seconds(120));

// Pids of live processes whose command line holds all of `words`.
std::vector<pid_t> FindProcesses(const std::vector<std::string>& words);

}  // namespace weft::testing
