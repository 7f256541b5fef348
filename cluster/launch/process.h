// A child process in an EventLoop: start, signal, exit, and never an orphan. The child gets its own process group (a Ctrl-C
// at the terminal does not reach it) and PR_SET_PDEATHSIG: SIGKILL when the thread that started it ends, whatever the
// reason. So Spawn must be called on a thread that lives as long as the child should: the loop's.
//
// Errors: Spawn gives the errno of what failed, exec included (NotFound: no such program).
// Thread rule: everything on the loop's thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/rpc/event_loop.h"

namespace weft {

struct ProcessOptions {
  // argv[0] is the path of the program.
  std::vector<std::string> argv;
  // Set on top of the parent's environment.
  std::vector<std::pair<std::string, std::string>> env;
  // Descriptors that the child keeps, under the same numbers; all others but 0, 1, 2 are closed.
  std::vector<int> inherited_fds;
  // stdout and stderr are appended to it; empty: the parent's.
  std::string log_path;
};

struct ProcessExit {
  int exit_code = 0;
  int signal = 0;  // that ended it; 0: none
};

class ChildProcess {
 public:
  // `on_exit` runs once, from the loop, after the child was reaped.
  static StatusOr<std::unique_ptr<ChildProcess>> Spawn(EventLoop* loop,
                                                       const ProcessOptions& options,
                                                       std::function<void(ProcessExit)> on_exit);
  // A child that still lives is killed (SIGKILL to its group) and reaped; on_exit does not run.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  bool alive() const { return !reaped_; }
  // To the child's process group; nothing if it was reaped.
  void Signal(int signal);

 private:
  ChildProcess(EventLoop* loop, pid_t pid, std::function<void(ProcessExit)> on_exit)
      : loop_(loop), pid_(pid), on_exit_(std::move(on_exit)) {}
  void Watch();
  void Poll();
  // False if it has not ended yet.
  bool ReapIfEnded();

  EventLoop* const loop_;
  const pid_t pid_;
  const std::function<void(ProcessExit)> on_exit_;
  bool reaped_ = false;
  int pidfd_ = -1;
  std::unique_ptr<EventLoop::Registration> watch_;
};

// The path of this program.
std::string OwnProgram();

}  // namespace weft
