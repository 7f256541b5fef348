// The node's loader as its agent sees it: the memory that loader and workers share, and the process that fills it. A loader
// that dies is started again at once; the workers wait at their rings meanwhile. One that shows no life for half a minute
// is killed first. After kMaxFruitlessDeaths deaths in a row without a micro-batch the workers are told why none will come.
//
// Errors: Start gives what kept the memory or the program from starting.
// Thread rule: everything on the loop's thread, which must live as long as the loader (process.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cluster/base/loader_segment.h"
#include "cluster/base/status.h"
#include "cluster/launch/process.h"
#include "cluster/rpc/event_loop.h"

namespace weft {

inline constexpr int kMaxFruitlessDeaths = 6;

struct LoaderProcessOptions {
  // Path of weft.
  std::string program;
  std::string log_path;
  // One for each worker.
  int regions = 1;
  // Of all regions together.
  int64_t bytes = 0;
};

class LoaderProcess {
 public:
  static StatusOr<std::unique_ptr<LoaderProcess>> Start(EventLoop* loop,
                                                        const LoaderProcessOptions& options);

  // For the workers to inherit.
  int memory_fd() const { return segment_->fd(); }
  int regions() const { return segment_->regions(); }
  bool given_up() const { return segment_->front().given_up != 0; }

 private:
  LoaderProcess(EventLoop* loop, LoaderProcessOptions options,
                std::unique_ptr<LoaderSegment> segment);
  Status Spawn();
  void OnExit(ProcessExit exit);
  void Restart();
  void GiveUp(const std::string& last_death);
  void Watch();

  EventLoop* const loop_;
  const LoaderProcessOptions options_;
  const std::unique_ptr<LoaderSegment> segment_;
  std::unique_ptr<ChildProcess> process_;
  std::unique_ptr<EventLoop::Registration> restart_;
  std::unique_ptr<EventLoop::Registration> watch_;
  int fruitless_deaths_ = 0;
  // When the living one was started, and what all had made by then.
  TimePoint started_{};
  uint64_t progress_at_start_ = 0;
  uint64_t last_heartbeat_ = 0;
  TimePoint last_alive_{};
  TimePoint last_watch_{};
};

}  // namespace weft
