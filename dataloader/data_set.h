// An ordered list of shards as one sequence of samples: sample id = position in that sequence, counted over the shards in
// the order of the patterns, or of the manifest, without the samples that it excludes.
//
// Errors: NotFound (a shard), Corruption (a broken shard, a sample without a wanted member); messages name the shard, and
// the key where there is one. Thread rule: reads are safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/cached_shard.h"
#include "dataloader/chunk_cache.h"
#include "dataloader/manifest.h"
#include "dataloader/picture_check.h"
#include "dataloader/sample.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"

namespace weft {

class DataSet {
 public:
  // `patterns` are paths or brace patterns ("train-{000000..000007}.tar"), also with * and ?, also joined by "::"; or the
  // lists that other tools keep (MosaicML's DIR/index.json, Energon's DIR/.nv-meta/.info.json); or one manifest
  // ("train.manifest"). `what` names the recipe's field in errors. A shard whose flat index
  // is beside it is not scanned.
  static StatusOr<std::unique_ptr<DataSet>> Open(const std::vector<std::string>& patterns,
                                                 const std::string& what);

  int64_t num_samples() const {
    return manifest_ ? manifest_->num_samples() : static_cast<int64_t>(first_sample_.back());
  }
  // Samples of each shard, in order.
  std::vector<uint64_t> ShardSizes() const;
  // SHA-256 over the shards' base names, sizes, sample counts and index contents: what a checkpoint must match.
  const std::string& manifest_hash() const { return manifest_hash_; }

  std::string_view key(int64_t id) const;
  // "shard train-000000.tar, sample 'a/b'".
  std::string Describe(int64_t id) const;
  // Whether the sample has a member with one of these.
  bool Has(int64_t id, std::span<const std::string> extensions) const;
  // Of the member that ReadMember would read; 0: there is none.
  int64_t MemberBytes(int64_t id, std::span<const std::string> extensions) const;
  // Where the sample lies: its shard, its number there, its bytes in the shard.
  struct Place {
    int64_t shard = 0;
    int64_t index = 0;
    uint64_t bytes = 0;
  };
  Place PlaceOf(int64_t id) const;
  // From the first byte of sample `begin` of a shard to the last of `end` - 1, or of the shard's last sample.
  uint64_t BytesOf(int64_t shard, int64_t begin, int64_t end) const;
  // A shard as this set sees it: without the samples that are excluded, with the columns that are laid over it.
  struct ShardView {
    std::string path;
    // Of the file as it lies on disk: bytes, and the time of its last change in ns.
    uint64_t disk_bytes = 0;
    int64_t disk_time = 0;
    // Ids of its samples: [first, end).
    int64_t first = 0;
    int64_t end = 0;
    // SHA-256 over what the shard's index says, which samples are seen, and the columns named by `extensions`.
    std::string fingerprint;
  };
  std::vector<ShardView> ShardViews(std::span<const std::string> extensions) const;
  // Takes the shards' lists of pictures that do not decode, if each shard has one of these extensions.
  void UsePictureChecks(const std::vector<std::string>& image_extensions);
  bool pictures_checked() const { return pictures_checked_; }
  // REQUIRES: pictures_checked().
  bool HasBadPicture(int64_t id) const;
  // From now on members are read through `cache`, in chunks of `chunk` samples as the order has them. Shards that were inflated
  // lie on local disk anyway. REQUIRES: nobody reads yet; `cache` is stopped before this set is gone, or nullptr:
  // then ChunkOf tells the chunks, and members are read from the shards.
  void ReadThrough(ChunkCache* cache, int64_t chunk);
  // The chunk that holds the sample; shard nullptr: it is not read through a cache.
  ChunkRef ChunkOf(int64_t id) const;
  // The extensions of the sample's members, in the order of the shard.
  std::vector<std::string> Extensions(int64_t id) const;
  // All of the sample, sorted by what it is.
  StatusOr<Sample> Read(int64_t id) const;
  // The bytes of the first of `extensions` that the sample has; a column of the manifest goes before the shard. Reuses the string's memory.
  Status ReadMember(int64_t id, std::span<const std::string> extensions, std::string* bytes) const;

 private:
  struct Shard {
    std::unique_ptr<ShardFile> file;
    ShardIndex index;
    PictureCheck pictures;
    // What members are read from instead of the file.
    std::unique_ptr<CachedShard> cached;
  };
  struct Location {
    const Shard* shard;
    int64_t index;
  };

  DataSet() = default;
  Location Locate(int64_t id) const;
  // Whether a column of the manifest has a value for the sample.
  bool HasValue(const Location& at, std::string_view name) const;
  Status AddShard(const std::string& path);
  // The shards must be those that the manifest was made from.
  Status OpenManifest(const std::string& path);
  std::string ComputeManifestHash() const;

  // Shards that are open at a time: those that the windows of some lanes read from.
  static constexpr size_t kMaxOpenFiles = 256;

  const std::shared_ptr<OpenFiles> files_ = std::make_shared<OpenFiles>(kMaxOpenFiles);
  std::unique_ptr<Manifest> manifest_;
  std::vector<Shard> shards_;
  // Id of each shard's first sample, and the total.
  std::vector<uint64_t> first_sample_;
  std::string manifest_hash_;
  bool pictures_checked_ = false;
};

// All paths that the patterns mean, in order; those of a wildcard sorted.
std::vector<std::string> ExpandShardPatterns(const std::vector<std::string>& patterns);

}  // namespace weft
