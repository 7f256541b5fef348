// Runs a program of Weft's as a person would, with a deadline; what it prints goes to a file.
//
// Errors: NotFound (no such program), DeadlineExceeded (it was killed). Thread rule: any thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"

namespace weft {

struct ChildOptions {
  // argv[0] is the path of the program.
  std::vector<std::string> argv;
  // Where it runs; relative paths mean this folder.
  std::string directory;
  // stdout and stderr.
  std::string log_path;
  // LD_LIBRARY_PATH; empty: this program's own.
  std::string library_path;
  Duration timeout = std::chrono::minutes(10);
};

// Its exit status; 128 + signal if a signal ended it.
StatusOr<int> RunChildProgram(const ChildOptions& options);

}  // namespace weft
