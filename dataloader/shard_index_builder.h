// Collects the samples of one shard, in the order in which they lie, into a ShardIndex. What reads a format gives it keys,
// extensions and places; it checks what holds for every format.
//
// Errors: Corruption (the same extension twice in a sample, too large a sample), with the shard's name and the byte.
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dataloader/shard_index.h"

namespace weft {

class ShardIndexBuilder {
 public:
  // REQUIRES: `bytes` outlives this. `checksums`: each sample's bytes are read for its CRC.
  ShardIndexBuilder(const ShardBytes& bytes, ShardFormat format, bool checksums);

  // A sample that begins at byte `begin`.
  Status BeginSample(std::string_view key, uint64_t begin);
  // A member of the last sample, with its data at [offset, offset + size). REQUIRES: a sample was begun.
  Status AddMember(const std::string& extension, uint64_t offset, uint64_t size);
  bool empty() const { return arrays_->samples.empty(); }
  // REQUIRES: not empty.
  std::string_view last_key() const;

  // The last sample's other members may have been cut off.
  void DropLast();
  ShardIndex Finish(Status cut);

  // Corruption: shard, byte, what.
  Status Error(uint64_t offset, const std::string& what) const;

 private:
  uint32_t ExtensionId(const std::string& extension);

  const ShardBytes& bytes_;
  const ShardFormat format_;
  const bool checksums_;
  std::shared_ptr<ShardIndex::Arrays> arrays_;
  std::vector<std::string> extensions_;
};

}  // namespace weft
