// Frames over a connected stream socket, for code that waits: a worker's end of its channel, `weft
// status`.
//
// Errors: DeadlineExceeded; Unavailable when the other side is gone; Corruption for bytes that are
// no frame (the socket is useless then). A DeadlineExceeded in the middle of a frame leaves the
// socket useless too. Thread rule: one thread sends and one receives at a time; ShutDown from any
// thread ends both.
#pragma once

#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

class BlockingSocket {
 public:
  // Owns `fd`.
  explicit BlockingSocket(int fd) : fd_(fd) {}
  ~BlockingSocket();
  BlockingSocket(BlockingSocket&& other) noexcept;
  BlockingSocket& operator=(BlockingSocket&&) = delete;

  Status Send(const control::Frame& frame, TimePoint deadline);
  StatusOr<control::Frame> Receive(TimePoint deadline);
  // Both directions end: a Receive that waits returns Unavailable.
  void ShutDown();

 private:
  Status ReadExactly(void* out, size_t size, TimePoint deadline);

  int fd_;
};

}  // namespace weft
