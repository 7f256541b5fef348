#include "cluster/launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "cluster/base/logging.h"

extern char** environ;

namespace weft {
namespace {

// Everything that the child needs between fork and exec, made before the fork: after it, in a program with threads, only
// async-signal-safe calls are allowed.
struct Launch {
  std::vector<char*> argv;
  std::vector<std::string> env_strings;
  std::vector<char*> env;
  std::vector<int> inherited_fds;
  int null_fd = -1;
  int log_fd = -1;
  int error_fd = -1;  // the errno of a failed exec goes here; close-on-exec
  pid_t parent = 0;
};

std::vector<std::string> MergedEnvironment(
    const std::vector<std::pair<std::string, std::string>>& extra) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    bool replaced = false;
    for (const auto& [name, value] : extra) {
      replaced |= std::strncmp(*entry, (name + "=").c_str(), name.size() + 1) == 0;
    }
    if (!replaced) merged.emplace_back(*entry);
  }
  for (const auto& [name, value] : extra) merged.push_back(name + "=" + value);
  return merged;
}

// Marks every descriptor above 2 close-on-exec, but those that the child keeps.
void KeepOnly(const std::vector<int>& inherited_fds) {
  if (::syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0) {
    for (int fd = 3; fd < 65536; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // a kernel before 5.11
  }
  for (const int fd : inherited_fds) ::fcntl(fd, F_SETFD, 0);
}

[[noreturn]] void ExecChild(const Launch& launch) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launch.parent) ::_exit(127);  // it died before the line above
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(launch.null_fd, 0);
  if (launch.log_fd >= 0) {
    ::dup2(launch.log_fd, 1);
    ::dup2(launch.log_fd, 2);
  }
  KeepOnly(launch.inherited_fds);
  ::execve(launch.argv[0], launch.argv.data(), launch.env.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t n = ::write(launch.error_fd, &error, sizeof error);
  ::_exit(127);
}

// Closes what it holds.
struct Fd {
  int fd = -1;
  Fd() = default;
  explicit Fd(int fd_in) : fd(fd_in) {}
  ~Fd() {
    if (fd >= 0) ::close(fd);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
};

// 0, or the errno with which exec failed.
int ExecError(int error_fd) {
  int error = 0;
  ssize_t n = 0;
  do {
    n = ::read(error_fd, &error, sizeof error);
  } while (n < 0 && errno == EINTR);
  return n == sizeof error ? error : 0;
}

ProcessExit ToExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {.exit_code = 0, .signal = WTERMSIG(wait_status)};
  return {.exit_code = WEXITSTATUS(wait_status), .signal = 0};
}

}  // namespace

StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Spawn(
    EventLoop* loop, const ProcessOptions& options, std::function<void(ProcessExit)> on_exit) {
  WEFT_CHECK(!options.argv.empty());
  Launch launch;
  for (const std::string& arg : options.argv) launch.argv.push_back(const_cast<char*>(arg.c_str()));
  launch.argv.push_back(nullptr);
  launch.env_strings = MergedEnvironment(options.env);
  for (std::string& entry : launch.env_strings) launch.env.push_back(entry.data());
  launch.env.push_back(nullptr);
  launch.inherited_fds = options.inherited_fds;
  launch.parent = ::getpid();

  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null.fd < 0) return ErrnoStatus("open /dev/null", errno);
  launch.null_fd = null.fd;
  Fd log;
  if (!options.log_path.empty()) {
    log.fd = ::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log.fd < 0) return ErrnoStatus("open log file " + options.log_path, errno);
    launch.log_fd = log.fd;
  }
  int error_pipe[2];
  if (::pipe2(error_pipe, O_CLOEXEC) != 0) return ErrnoStatus("pipe", errno);
  const Fd error_read(error_pipe[0]);
  launch.error_fd = error_pipe[1];

  const pid_t pid = ::fork();
  if (pid == 0) ExecChild(launch);
  const int fork_error = errno;
  ::close(error_pipe[1]);
  if (pid < 0) return ErrnoStatus("fork " + options.argv[0], fork_error);
  ::setpgid(pid, pid);  // in the child too: whoever comes first
  if (const int error = ExecError(error_read.fd); error != 0) {
    ::waitpid(pid, nullptr, 0);
    return ErrnoStatus("start " + options.argv[0], error);
  }
  std::unique_ptr<ChildProcess> child(new ChildProcess(loop, pid, std::move(on_exit)));
  child->Watch();
  return child;
}

void ChildProcess::Watch() {
  pidfd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd_ < 0) return Poll();  // a kernel before 5.3
  watch_ = loop_->OnReadable(pidfd_, [this] {
    // The pidfd of a process with threads can be readable a moment before waitid knows of its end.
    if (!ReapIfEnded()) Poll();
  });
}

void ChildProcess::Poll() {
  watch_ = loop_->Every(std::chrono::milliseconds(5), [this] { ReapIfEnded(); });
}

bool ChildProcess::ReapIfEnded() {
  siginfo_t info = {};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return false;
  }
  // What it started and left behind goes with it; the unreaped leader still keeps the group's number.
  ::kill(-pid_, SIGKILL);
  int wait_status = 0;
  ::waitpid(pid_, &wait_status, 0);
  reaped_ = true;
  watch_.reset();
  on_exit_(ToExit(wait_status));  // may destroy this
  return true;
}

void ChildProcess::Signal(int signal) {
  if (!reaped_) ::kill(-pid_, signal);
}

ChildProcess::~ChildProcess() {
  watch_.reset();
  if (!reaped_) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (pidfd_ >= 0) ::close(pidfd_);
}

std::string OwnProgram() {
  char path[PATH_MAX] = {};
  return ::readlink("/proc/self/exe", path, sizeof path - 1) > 0 ? path : "./weft";
}

}  // namespace weft
