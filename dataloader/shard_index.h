// What lies where in one shard: per sample its key and its members (extension, offset, size), found by reading headers
// only. A sample is a maximal run of consecutive members with one key (dataloader/FORMAT.md).
//
// Errors: Corruption, with the shard's name and the byte. Thread rule: immutable once built.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"

namespace weft {

struct ShardMember {
  uint64_t offset = 0;
  uint64_t size = 0;
  // Index into ShardIndex::extensions().
  uint32_t extension = 0;
};

enum class CutShards {
  kRefuse,  // an error
  // Keep the samples that are certainly whole; `cut()` holds the error. For looking at what is left.
  kKeepWholeSamples,
};

class ShardIndex {
 public:
  static StatusOr<ShardIndex> Build(const ShardFile& file,
                                    CutShards cut_shards = CutShards::kRefuse);

  int64_t num_samples() const { return static_cast<int64_t>(samples_.size()); }
  std::string_view key(int64_t sample) const;
  std::span<const ShardMember> members(int64_t sample) const;
  const std::string& extension(const ShardMember& member) const {
    return extensions_[member.extension];
  }
  // The sample's member with this extension; nullptr if it has none.
  const ShardMember* Find(int64_t sample, std::string_view extension) const;
  // CRC32C over keys, extensions, offsets and sizes: two shards with the same value hold samples in the same places.
  uint32_t contents_crc() const { return contents_crc_; }
  // OK unless the shard was cut and kKeepWholeSamples was given.
  const Status& cut() const { return cut_; }

 private:
  struct Sample {
    uint64_t key_begin = 0;
    uint32_t key_size = 0;
    uint32_t num_members = 0;
    uint64_t first_member = 0;
  };

  // A member of the run of `key`; Corruption if the run has the extension already.
  Status Add(const ShardFile& file, const std::string& key, const std::string& extension,
             uint64_t offset, uint64_t size);
  uint32_t ExtensionId(const std::string& extension);
  uint32_t ComputeContentsCrc() const;

  std::vector<Sample> samples_;
  std::vector<ShardMember> members_;
  std::string keys_;
  std::vector<std::string> extensions_;
  uint32_t contents_crc_ = 0;
  Status cut_;
};

}  // namespace weft
