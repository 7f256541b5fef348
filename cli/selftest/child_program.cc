#include "cli/selftest/child_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

#include "cluster/base/file_system.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr int kNotStarted = 127;

[[noreturn]] void Become(const ChildOptions& options, const std::vector<char*>& argv) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int log = ::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (log < 0 || ::dup2(log, STDOUT_FILENO) < 0 || ::dup2(log, STDERR_FILENO) < 0 ||
      ::chdir(options.directory.c_str()) != 0) {
    ::_exit(kNotStarted);
  }
  if (!options.library_path.empty())
    ::setenv("LD_LIBRARY_PATH", options.library_path.c_str(), /*overwrite=*/1);
  ::execv(argv[0], argv.data());
  ::_exit(kNotStarted);
}

}  // namespace

StatusOr<int> RunChildProgram(const ChildOptions& options) {
  if (::access(options.argv[0].c_str(), X_OK) != 0)
    return NotFound(options.argv[0] + " is not there");
  std::vector<std::string> args = options.argv;
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoStatus("fork", errno);
  if (pid == 0) Become(options, argv);
  const TimePoint deadline = Clock::now() + options.timeout;
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (Clock::now() >= deadline) {
      ::kill(-pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return DeadlineExceeded(options.argv[0] + " was not done after " +
                              HumanSeconds(ToSeconds(options.timeout)) + "; its output is in " +
                              options.log_path);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace weft
