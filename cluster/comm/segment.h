// The shared memory of one rank: a flag that says whether it sleeps, and one ring to each rank. It
// is a memfd without a name: peers open it through /proc/<pid>/fd/<fd>, and the kernel frees it
// when the last process that mapped it is gone, kill -9 or not. Memory of a ring is touched once
// and used again by every operation.
//
// Errors: ResourceExhausted (no memory), NotFound or InvalidArgument (another host, pid namespace
// or user: use sockets). Thread rule: immutable after construction; the rings' rules are ring.h's.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "cluster/base/status.h"
#include "cluster/comm/ring.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

class Segment {
 public:
  // A ring to each of `ranks` ranks. REQUIRES: ring_bytes is a multiple of 4096.
  static StatusOr<std::shared_ptr<Segment>> Create(int ranks, size_t ring_bytes);
  // Maps the segment of another process; `nonce` proves that it is the one that was meant.
  static StatusOr<std::shared_ptr<Segment>> Open(pid_t pid, int fd, uint64_t nonce, int ranks,
                                                 size_t ring_bytes);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // The owner's; a peer closes its own once the memory is mapped.
  int fd() const { return fd_.get(); }
  uint64_t nonce() const;
  // Nonzero while the owner sleeps (doorbell.h).
  std::atomic<uint32_t>* sleeping() const;
  // From the owner to rank `to`.
  Ring RingTo(int to) const;

 private:
  Segment(UniqueFd fd, std::byte* memory, int ranks, size_t ring_bytes);
  static StatusOr<std::shared_ptr<Segment>> Map(UniqueFd fd, int ranks, size_t ring_bytes);

  UniqueFd fd_;
  std::byte* memory_;
  int ranks_;
  size_t ring_bytes_;
};

}  // namespace weft
