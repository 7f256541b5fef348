// Frames over a stream socket (TCP, or the socket pair of a worker) in an EventLoop: a coroutine
// reads, a queue writes.
//
// Errors: on_closed gets the reason, once: Unavailable (closed by the other side, reset),
// Corruption (bytes that are no frame), or what Close was given. It never runs in Send, Close or
// the destructor, but from the loop. Thread rule: everything on the loop's thread. A connection may
// be destroyed at any time there, in its own callbacks too; no callback runs after that.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "cluster/rpc/event_loop.h"

namespace weft {

class FrameConnection {
 public:
  struct Callbacks {
    std::function<void(const control::Frame&)> on_frame;
    std::function<void(const Status&)> on_closed;
  };

  // Owns the connected stream socket `fd`. `peer` is its name in messages.
  FrameConnection(EventLoop* loop, int fd, std::string peer);
  // Closes at once: what is queued but not yet written is lost (see CloseAfterWrites).
  ~FrameConnection();
  FrameConnection(const FrameConnection&) = delete;
  FrameConnection& operator=(const FrameConnection&) = delete;

  // Starts to read. Once.
  void Start(Callbacks callbacks);
  // Queues. After the end it does nothing; a peer that lets more than 256 MiB pile up is closed.
  void Send(const control::Frame& frame);
  // Ends; on_closed gets `reason`.
  void Close(const Status& reason);
  // Stops reading, writes what is queued, then ends with `reason`.
  void CloseAfterWrites(const Status& reason);

  const std::string& peer() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the coroutines that are under way
};

}  // namespace weft
