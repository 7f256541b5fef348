// How a rank sleeps and is woken. It sleeps in one poll() over a pipe and its sockets; a peer on
// the same host that has written to or read from a ring writes a byte into the pipe, but only if
// the rank said that it sleeps.
//
// No wake-up is lost: the sleeper sets its flag and then looks at the rings once more; the ringer
// publishes and then looks at the flag. Both use sequentially consistent operations, so at least
// one of them sees the other.
//
// Thread rule: Sleeper belongs to one thread, except Wake; Ringer to one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "cluster/base/status.h"
#include "cluster/comm/segment.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

class Sleeper {
 public:
  // The flag lies in the rank's own segment.
  static StatusOr<std::unique_ptr<Sleeper>> Create(std::shared_ptr<Segment> segment);

  // Peers that find it set ring. Look for work once more between SetSleeping(true) and poll().
  void SetSleeping(bool sleeping) { segment_->sleeping()->store(sleeping ? 1 : 0); }
  // For poll(): readable once somebody rang.
  int poll_fd() const { return read_.get(); }
  // What peers open to ring.
  int ring_fd() const { return write_.get(); }
  // Takes the bytes out of the pipe.
  void Drain();
  // From any thread of this process, asleep or not.
  void Wake();

 private:
  std::shared_ptr<Segment> segment_;
  UniqueFd read_;
  UniqueFd write_;
};

class Ringer {
 public:
  // The peer's pipe, through /proc/<pid>/fd/<fd>.
  static StatusOr<Ringer> Open(pid_t pid, int fd, std::shared_ptr<Segment> peer);

  // Wakes the peer if it sleeps.
  void Ring();

 private:
  Ringer(std::shared_ptr<Segment> peer, UniqueFd pipe)
      : peer_(std::move(peer)), pipe_(std::move(pipe)) {}

  std::shared_ptr<Segment> peer_;
  UniqueFd pipe_;
};

}  // namespace weft
