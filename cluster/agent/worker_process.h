// One worker as its agent sees it: a child process and the socket pair that it speaks over. Its exit is told after its last
// message, so that a Failed is never overtaken by the news of its death.
//
// Errors: Spawn gives what kept the program from starting.
// Thread rule: everything on the loop's thread, which must live as long as the worker (see process.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/launch/process.h"
#include "cluster/rpc/control.pb.h"
#include "cluster/rpc/frame_connection.h"

namespace weft {

// A worker's place in the node's loader.
struct WorkerLoaderPlace {
  // The loader's memory; -1: there is no loader.
  int memory_fd = -1;
  int region = 0;
  // Never the same for two workers of one region.
  uint64_t id = 0;
  // Whether regions follow each other as ranks do.
  bool consecutive = true;
};

struct WorkerProcessOptions {
  std::string program;
  int rank = 0;
  // Where the worker listens for its data-plane peers.
  std::string data_host = "127.0.0.1";
  std::string log_path;
  WorkerLoaderPlace loader;
};

class WorkerProcess {
 public:
  struct Callbacks {
    std::function<void(const control::Frame&)> on_frame;
    // Once, at most 50 ms after the death. The worker may be destroyed in it.
    std::function<void(ProcessExit)> on_exit;
  };

  static StatusOr<std::unique_ptr<WorkerProcess>> Spawn(EventLoop* loop,
                                                        const WorkerProcessOptions& options,
                                                        Callbacks callbacks);

  int rank() const { return rank_; }
  pid_t pid() const { return process_->pid(); }
  const std::string& log_path() const { return log_path_; }
  // False once on_exit has run.
  bool live() const { return !told_; }
  void Send(const control::Frame& frame) { connection_->Send(frame); }
  void Signal(int signal) { process_->Signal(signal); }

 private:
  WorkerProcess(EventLoop* loop, int rank, Callbacks callbacks)
      : loop_(loop), rank_(rank), callbacks_(std::move(callbacks)) {}
  void OnProcessExit(ProcessExit exit);
  void OnConnectionClosed(const Status& reason);
  void Tell();

  EventLoop* const loop_;
  const int rank_;
  std::string log_path_;
  const Callbacks callbacks_;
  std::unique_ptr<FrameConnection> connection_;
  std::unique_ptr<ChildProcess> process_;
  bool exited_ = false;
  bool closed_ = false;
  bool told_ = false;
  ProcessExit exit_;
  // While exited: the wait for last words. While closed: the wait for the exit.
  std::unique_ptr<EventLoop::Registration> timer_;
};

}  // namespace weft
