// What lies where in one shard: per sample its key, its bytes and its members (extension, offset, size), found by reading
// headers, or mapped from the flat index that `weft data index` keeps beside a shard. The format is told by the first bytes:
// a tar, where a sample is a maximal run of consecutive members with one key, MosaicML's MDS (mds_shard.h), or JSON records
// (json_records.h); dataloader/FORMAT.md.
//
// Errors: Corruption, with the shard's name and the byte. Thread rule: immutable once built.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"

namespace weft {

// As it stands in the flat index; so is IndexedSample.
struct ShardMember {
  uint64_t offset = 0;
  uint32_t size = 0;
  // Index into ShardIndex::extensions().
  uint32_t extension = 0;
};
static_assert(sizeof(ShardMember) == 16);

// A sample's bytes are [begin, begin + size) of the tar: all of its members, headers and the padding between them.
struct IndexedSample {
  uint64_t begin = 0;
  uint32_t size = 0;
  uint32_t crc = 0;  // CRC32C of these bytes; 0 in an index that was built from headers only
  uint64_t key_begin = 0;
  uint32_t first_member = 0;
  uint16_t key_size = 0;
  uint16_t num_members = 0;
};
static_assert(sizeof(IndexedSample) == 32);

enum class ShardFormat : uint32_t { kTar = 0, kMds = 1, kJson = 2 };

enum class CutShards {
  kRefuse,  // an error
  // Keep the samples that are certainly whole; `cut()` holds the error. For looking at what is left.
  kKeepWholeSamples,
};

class ShardIndex {
 public:
  // From headers only.
  static StatusOr<ShardIndex> Build(const ShardFile& file,
                                    CutShards cut_shards = CutShards::kRefuse);
  // The same in one pass over all bytes, with each sample's checksum.
  static StatusOr<ShardIndex> BuildWithChecksums(const ShardFile& file,
                                                 CutShards cut_shards = CutShards::kRefuse);

  // "SHARD.index", written durably. REQUIRES: not cut.
  Status WriteBeside(const ShardFile& file) const;
  // Mapped. Nothing: there is none, or it is of another file (its size or time differ), or it is broken.
  static std::optional<ShardIndex> MapBeside(const ShardFile& file);

  ShardFormat format() const { return format_; }
  int64_t num_samples() const { return static_cast<int64_t>(samples_.size()); }
  std::string_view key(int64_t sample) const;
  std::span<const ShardMember> members(int64_t sample) const;
  const IndexedSample& sample(int64_t sample) const {
    return samples_[static_cast<size_t>(sample)];
  }
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
  friend class ShardIndexBuilder;
  struct Arrays {
    std::vector<IndexedSample> samples;
    std::vector<ShardMember> members;
    std::string keys;
  };

  static StatusOr<ShardIndex> Build(const ShardBytes& bytes, CutShards cut_shards, bool checksums);
  uint32_t ComputeContentsCrc() const;
  // Whether all that samples and members name lies inside.
  bool IsSound() const;

  ShardFormat format_ = ShardFormat::kTar;
  std::span<const IndexedSample> samples_;
  std::span<const ShardMember> members_;
  std::string_view keys_;
  std::vector<std::string> extensions_;
  uint32_t contents_crc_ = 0;
  Status cut_;
  // What the views look into: arrays, or a mapped file.
  std::shared_ptr<const void> storage_;
};

}  // namespace weft
