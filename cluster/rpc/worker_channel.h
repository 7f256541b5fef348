// A worker's line to the control plane: the socket that it inherits from its agent
// (`--control-fd`). A reader thread of its own receives; so a Stop, or the agent's death, is seen
// while the worker computes.
//
//   WorkerChannel channel({.fd = fd, .rank = rank, .on_lost = [](const Status&) {
//   std::_Exit(kExitLost); }}); channel.Send(hello);                         // any thread auto
//   start = channel.Receive(deadline);      // Start, SaveGrant, SaveOutcome, in order if
//   (channel.stop_requested()) ...            // polled at a step boundary
//
// Errors: DeadlineExceeded from Receive leaves the channel usable. Once the agent is gone every
// call gives Unavailable with the first cause. Thread rule: every method from any thread; on_lost
// runs on the reader thread, at most once, never after the destructor.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

struct WorkerChannelOptions {
  int fd = -1;
  int rank = -1;
  // The agent is gone (EOF, or bytes that are no frame). A worker must not outlive its agent: leave
  // the process at once.
  std::function<void(const Status&)> on_lost;
  // A message that the agent does not take for so long means that it hangs.
  Duration send_timeout = std::chrono::seconds(30);
};

class WorkerChannel {
 public:
  explicit WorkerChannel(WorkerChannelOptions options);
  // Ends the reader thread; what was sent stays readable for the agent.
  ~WorkerChannel();
  WorkerChannel(const WorkerChannel&) = delete;
  WorkerChannel& operator=(const WorkerChannel&) = delete;

  Status Send(const control::WorkerMessage& message);
  // The next Start, SaveGrant or SaveOutcome. A Stop is not queued: it sets stop_requested(). A
  // DumpRecorder is answered at once.
  StatusOr<control::CoordinatorMessage> Receive(TimePoint deadline);

  // The last operations for a DumpRecorder, called on the reader thread; nullptr: none. Must stay
  // callable until it is replaced.
  void SetFlightSource(std::function<control::FlightDump(int last)> source);

  bool stop_requested() const;
  // Why; "" before.
  std::string stop_reason() const;
  // Token of this worker's generation: known once Start has been received.
  control::Token token() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft
