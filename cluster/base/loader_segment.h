// The memory between an agent, its node's loader and its workers: a memfd that the agent makes and owns, so that both
// sides of every ring may die. A front page that the agent and the loader write, then one region for each worker, of which
// only the dataloader knows what is in it. Both children inherit the descriptor; the kernel frees the memory with the last
// of the three. Pages exist once they are touched.
//
// Errors: errno's. Thread rule: immutable; what it points to says who writes it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cluster/base/status.h"

namespace weft {

struct LoaderFront {
  uint64_t magic = 0;
  uint64_t regions = 0;
  uint64_t region_bytes = 0;
  // The loader counts up while it lives and is not stopped.
  alignas(64) std::atomic<uint64_t> heartbeat;
  // Micro-batches of all loaders that this segment has seen, and how often one of them found a ring full, so that there was
  // nothing to do: progress between two deaths.
  alignas(64) std::atomic<uint64_t> progress;
  // The agent counts its loaders.
  alignas(64) std::atomic<uint64_t> starts;
  // Nonzero: the agent gave the loader up; `reason` is a string then.
  std::atomic<uint32_t> given_up;
  char reason[1024];
};
static_assert(sizeof(LoaderFront) <= 4096);

class LoaderSegment {
 public:
  // The agent's. `region_bytes` is rounded up to whole pages.
  static StatusOr<std::unique_ptr<LoaderSegment>> Create(int regions, size_t region_bytes);
  // An inherited descriptor, which is closed. InvalidArgument: it is no such segment.
  static StatusOr<std::unique_ptr<LoaderSegment>> Adopt(int fd);
  ~LoaderSegment();
  LoaderSegment(const LoaderSegment&) = delete;
  LoaderSegment& operator=(const LoaderSegment&) = delete;

  // The agent's, for its children; -1 elsewhere.
  int fd() const { return fd_; }
  LoaderFront& front() const { return *reinterpret_cast<LoaderFront*>(memory_); }
  int regions() const { return static_cast<int>(regions_); }
  size_t region_bytes() const { return region_bytes_; }
  // REQUIRES: 0 <= region < regions().
  std::span<std::byte> Region(int region) const;

 private:
  LoaderSegment(int fd, std::byte* memory, size_t regions, size_t region_bytes)
      : fd_(fd), memory_(memory), regions_(regions), region_bytes_(region_bytes) {}

  int fd_;
  std::byte* memory_;
  size_t regions_;
  size_t region_bytes_;
};

}  // namespace weft
