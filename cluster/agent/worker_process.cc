#include "cluster/agent/worker_process.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/launch/worker_libraries.h"

namespace weft {
namespace {

// The socket of a dead process ends at once, unless a child of it holds the descriptor.
constexpr auto kLastWords = std::chrono::milliseconds(40);
// A worker that has closed its line can only leave.
constexpr auto kExitAfterClose = std::chrono::seconds(30);

}  // namespace

StatusOr<std::unique_ptr<WorkerProcess>> WorkerProcess::Spawn(EventLoop* loop,
                                                              const WorkerProcessOptions& options,
                                                              Callbacks callbacks) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    return ErrnoStatus("socketpair", errno);
  }
  const std::string rank = std::to_string(options.rank);
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(loop, options.rank, std::move(callbacks)));
  worker->log_path_ = options.log_path;
  worker->connection_ = std::make_unique<FrameConnection>(loop, fds[0], "worker of rank " + rank);
  ProcessOptions process;
  process.argv = {options.program, "--control-fd",   std::to_string(fds[1]), "--rank", rank,
                  "--bind",        options.data_host};
  // Ranks share the node's cores: threads of libgomp that wait must sleep.
  process.env = {{"GOMP_SPINCOUNT", "0"}};
  WEFT_ASSIGN_OR_RETURN(const std::string libraries, WorkerLibraryPath(options.program));
  if (!libraries.empty()) process.env.emplace_back("LD_LIBRARY_PATH", libraries);
  process.inherited_fds = {fds[1]};
  if (options.loader.memory_fd >= 0) {
    const WorkerLoaderPlace& loader = options.loader;
    process.argv.push_back("--loader");
    process.argv.push_back(std::to_string(loader.memory_fd) + ":" + std::to_string(loader.region) +
                           ":" + std::to_string(loader.id) + ":" +
                           (loader.consecutive ? "1" : "0"));
    process.inherited_fds.push_back(loader.memory_fd);
  }
  process.log_path = options.log_path;
  auto child = ChildProcess::Spawn(
      loop, process, [worker = worker.get()](ProcessExit exit) { worker->OnProcessExit(exit); });
  ::close(fds[1]);
  if (!child.ok()) return child.status();
  worker->process_ = std::move(*child);
  worker->connection_->Start(
      {.on_frame = [worker = worker.get()](
                       const control::Frame& frame) { worker->callbacks_.on_frame(frame); },
       .on_closed =
           [worker = worker.get()](const Status& reason) { worker->OnConnectionClosed(reason); }});
  return worker;
}

void WorkerProcess::OnProcessExit(ProcessExit exit) {
  exited_ = true;
  exit_ = exit;
  if (closed_) {
    Tell();
  } else {
    timer_ = loop_->After(kLastWords, [this] { Tell(); });
  }
}

void WorkerProcess::OnConnectionClosed(const Status& reason) {
  closed_ = true;
  if (exited_) {
    Tell();
    return;
  }
  if (reason.code() == StatusCode::kCorruption) {
    WEFT_LOG(ERROR) << reason << "; killed";
    process_->Signal(SIGKILL);
    return;
  }
  timer_ = loop_->After(kExitAfterClose, [this] {
    WEFT_LOG(ERROR) << "rank " << rank_ << " closed its line but did not leave; killed";
    process_->Signal(SIGKILL);
  });
}

void WorkerProcess::Tell() {
  if (told_) return;
  told_ = true;
  timer_.reset();
  callbacks_.on_exit(exit_);
}

}  // namespace weft
