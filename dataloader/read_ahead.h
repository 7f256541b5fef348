// A shard read once from front to back in large blocks, the next one by a helper thread while this one is in use. Offsets
// may step back by less than a block. Same bytes and errors as the shard's own.
//
// Thread rule: one thread, although it is const for its readers.
#pragma once

#include <cstdint>
#include <deque>
#include <future>
#include <string>
#include <vector>

#include "dataloader/shard_file.h"

namespace weft {

class ReadAhead : public ShardBytes {
 public:
  // REQUIRES: `file` outlives this.
  explicit ReadAhead(const ShardFile& file) : file_(file) {}

  const std::string& path() const override { return file_.path(); }
  uint64_t size() const override { return file_.size(); }
  Status ReadAt(uint64_t offset, size_t size, void* out) const override;
  StatusOr<uint32_t> Checksum(uint64_t offset, uint64_t size, uint32_t crc) const override;

 private:
  struct Block {
    uint64_t index = 0;
    std::vector<char> bytes;
    Status status;
  };

  Block Read(uint64_t index, std::vector<char> buffer) const;
  // The block, and the one behind it on its way.
  StatusOr<const Block*> Get(uint64_t index) const;

  const ShardFile& file_;
  mutable std::deque<Block> blocks_;
  mutable std::future<Block> next_;
  mutable uint64_t next_index_ = 0;
};

}  // namespace weft
