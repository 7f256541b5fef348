// A byte stream from one writer to one reader through shared memory: a ring whose two positions
// only ever grow. Reader and writer may be processes; neither blocks (waiting is doorbell.h).
//
// All stores of a position are sequentially consistent, because "publish, then look whether the
// other one sleeps" and "say that I sleep, then look once more" must not both miss (doorbell.h).
//
// Thread rule: one writer thread, one reader thread.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace weft {

// In the shared memory, all zero at the start. Each position has its cache line.
struct RingPositions {
  alignas(64) std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> consumed;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "positions are shared between processes");

class Ring {
 public:
  Ring() = default;
  // REQUIRES: capacity is a multiple of 64, data aligned to 64.
  Ring(RingPositions* positions, std::byte* data, size_t capacity);

  size_t capacity() const { return capacity_; }
  // Copies at most `limit` bytes of the parts, in order, and publishes them; returns how many
  // fitted.
  size_t Write(const iovec* parts, int num_parts, size_t limit);
  // What has been written and lies in one piece; more may follow behind the ring's end.
  std::span<const std::byte> Peek() const;
  // Gives `bytes` of what Peek showed back to the writer.
  void Consume(size_t bytes);
  size_t FreeBytes() const;
  // All that has been written and not consumed.
  size_t UnreadBytes() const { return capacity_ - FreeBytes(); }

  // For a writer that fills the memory itself (from a socket): room in one piece, then publish.
  std::span<std::byte> WritableSpan();
  void Publish(size_t bytes);

 private:
  void CopyIn(uint64_t at, const std::byte* from, size_t bytes);

  RingPositions* positions_ = nullptr;
  std::byte* data_ = nullptr;
  size_t capacity_ = 0;
};

}  // namespace weft
