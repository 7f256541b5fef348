#include "cluster/comm/ring.h"

#include <algorithm>
#include <cstring>

#include "cluster/base/logging.h"

namespace weft {

Ring::Ring(RingPositions* positions, std::byte* data, size_t capacity)
    : positions_(positions), data_(data), capacity_(capacity) {
  WEFT_CHECK_EQ(capacity % 64, 0u);
}

void Ring::CopyIn(uint64_t at, const std::byte* from, size_t bytes) {
  const size_t offset = at % capacity_;
  const size_t first = std::min(bytes, capacity_ - offset);
  std::memcpy(data_ + offset, from, first);
  if (bytes > first) std::memcpy(data_, from + first, bytes - first);
}

size_t Ring::Write(const iovec* parts, int num_parts, size_t limit) {
  const uint64_t begin = positions_->written.load(std::memory_order_relaxed);
  const size_t room = std::min(FreeBytes(), limit);
  size_t taken = 0;
  for (int i = 0; i < num_parts && taken < room; ++i) {
    const size_t n = std::min(parts[i].iov_len, room - taken);
    if (n == 0) continue;  // memcpy from null is undefined even for no bytes
    CopyIn(begin + taken, static_cast<const std::byte*>(parts[i].iov_base), n);
    taken += n;
  }
  if (taken > 0) positions_->written.store(begin + taken);
  return taken;
}

std::span<const std::byte> Ring::Peek() const {
  const uint64_t consumed = positions_->consumed.load(std::memory_order_relaxed);
  const auto available = static_cast<size_t>(positions_->written.load() - consumed);
  const size_t offset = consumed % capacity_;
  return {data_ + offset, std::min(available, capacity_ - offset)};
}

void Ring::Consume(size_t bytes) {
  positions_->consumed.store(positions_->consumed.load(std::memory_order_relaxed) + bytes);
}

size_t Ring::FreeBytes() const {
  return capacity_ -
         (positions_->written.load(std::memory_order_relaxed) - positions_->consumed.load());
}

std::span<std::byte> Ring::WritableSpan() {
  const size_t offset = positions_->written.load(std::memory_order_relaxed) % capacity_;
  return {data_ + offset, std::min(FreeBytes(), capacity_ - offset)};
}

void Ring::Publish(size_t bytes) {
  positions_->written.store(positions_->written.load(std::memory_order_relaxed) + bytes);
}

}  // namespace weft
