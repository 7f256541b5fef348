#include "dataloader/read_ahead.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr uint64_t kBlockBytes = uint64_t{4} << 20;
// The one in use and the one before it.
constexpr size_t kKept = 2;

}  // namespace

ReadAhead::Block ReadAhead::Read(uint64_t index, std::vector<char> buffer) const {
  Block block{index, std::move(buffer), {}};
  const uint64_t begin = index * kBlockBytes;
  block.bytes.resize(static_cast<size_t>(std::min(kBlockBytes, file_.size() - begin)));
  block.status = file_.ReadAt(begin, block.bytes.size(), block.bytes.data());
  return block;
}

StatusOr<const ReadAhead::Block*> ReadAhead::Get(uint64_t index) const {
  for (const Block& block : blocks_) {
    if (block.index == index) return &block;
  }
  const bool expected = next_.valid() && next_index_ == index;
  Block block = expected ? next_.get() : Read(index, {});
  WEFT_RETURN_IF_ERROR(block.status);
  blocks_.push_back(std::move(block));
  std::vector<char> buffer;
  if (blocks_.size() > kKept) {
    buffer = std::move(blocks_.front().bytes);
    blocks_.pop_front();
  }
  // The disk works on two blocks while one is copied and one is in use.
  file_.Announce((index + 2) * kBlockBytes, kBlockBytes);
  if ((index + 1) * kBlockBytes < file_.size()) {
    next_index_ = index + 1;
    next_ = std::async(std::launch::async,
                       [this, next = index + 1, free = std::move(buffer)]() mutable {
                         return Read(next, std::move(free));
                       });
  }
  return &blocks_.back();
}

Status ReadAhead::ReadAt(uint64_t offset, size_t size, void* out) const {
  // The shard's own error says where it ends.
  if (offset > file_.size() || size > file_.size() - offset) return file_.ReadAt(offset, size, out);
  auto* cursor = static_cast<char*>(out);
  while (size > 0) {
    WEFT_ASSIGN_OR_RETURN(const Block* block, Get(offset / kBlockBytes));
    const auto skip = static_cast<size_t>(offset % kBlockBytes);
    const size_t count = std::min(size, block->bytes.size() - skip);
    std::memcpy(cursor, block->bytes.data() + skip, count);
    cursor += count;
    offset += count;
    size -= count;
  }
  return OkStatus();
}

StatusOr<uint32_t> ReadAhead::Checksum(uint64_t offset, uint64_t size, uint32_t crc) const {
  while (size > 0) {
    WEFT_ASSIGN_OR_RETURN(const Block* block, Get(offset / kBlockBytes));
    const auto skip = static_cast<size_t>(offset % kBlockBytes);
    const auto count = static_cast<size_t>(std::min<uint64_t>(size, block->bytes.size() - skip));
    crc = Crc32c(block->bytes.data() + skip, count, crc);
    offset += count;
    size -= count;
  }
  return crc;
}

}  // namespace weft
