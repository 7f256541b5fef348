// A shard whose samples are read through the node's cache: in chunks as the order has them, since those are what it needs
// within one window. Chunks of more than 16 MiB are cut at samples. What the cache has not got, and what belongs to no sample,
// comes from the shard itself: same bytes, same errors.
//
// A chunk's key: where the index has a checksum of each sample, these and the places, so that a shard may be copied or moved;
// else the shard's path, size, time and the index's contents. (Size and time alone would take a shard for another one that was
// written with the same time, as unpackers do.)
//
// Thread rule: immutable once made; reads are safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataloader/chunk_cache.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"

namespace weft {

class CachedShard : public ShardBytes {
 public:
  static constexpr uint64_t kMaxChunkBytes = uint64_t{16} << 20;

  // `starts`: the first sample of each chunk, rising, and the end of the last. nullptr: the samples do not lie one after the
  // other. REQUIRES: all outlive this; `cache` may be nullptr, for those who only ask for chunks.
  static std::unique_ptr<CachedShard> Make(const ShardFile& file, const ShardIndex& index,
                                           std::span<const int64_t> starts, ChunkCache* cache);

  const std::string& path() const override { return file_.path(); }
  uint64_t size() const override { return file_.size(); }
  Status ReadAt(uint64_t offset, size_t size, void* out) const override;
  StatusOr<uint32_t> Checksum(uint64_t offset, uint64_t size, uint32_t crc) const override {
    return file_.Checksum(offset, size, crc);
  }

  // The chunk of sample `index`; none: it is in no chunk.
  ChunkRef ChunkAt(int64_t index) const;
  std::string KeyOf(uint32_t chunk) const;
  uint64_t BytesOf(uint32_t chunk) const {
    return borders_[chunk + 1].offset - borders_[chunk].offset;
  }
  // From the shard, compared with the index. Errors: the shard's; Unavailable (it changed), Corruption.
  Status Fetch(uint32_t chunk, std::string* bytes) const;

 private:
  // Where a chunk begins.
  struct Border {
    uint64_t offset = 0;
    int64_t sample = 0;
  };

  CachedShard(const ShardFile& file, const ShardIndex& index, ChunkCache* cache)
      : file_(file), index_(index), cache_(cache) {}

  const ShardFile& file_;
  const ShardIndex& index_;
  ChunkCache* const cache_;
  std::vector<Border> borders_;
  // "": the samples' checksums are the identity.
  std::string path_identity_;
};

}  // namespace weft
