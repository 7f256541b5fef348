// A data set as one small text file (its shards, and what is laid over them) and one flat file of sample places beside it
// (FORMAT.md). The text is read at once; the places are read by the page, and a place costs a look-up of its shard and one page: a shard's places begin on a page, so a chunk of up to 256 samples that starts at a multiple of its size has one.
//
// Overlays never change shards: an exclusion takes samples out of the sequence, a column gives them other captions or scores
// (column_overlay.h). They stack, and the hash changes with each.
//
// Errors: NotFound, Corruption, InvalidArgument; messages name the file and the line. Thread rule: a manifest is safe from
// any thread; a writer belongs to one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "dataloader/column_overlay.h"
#include "dataloader/paged_file.h"
#include "dataloader/range_finder.h"

namespace weft {

struct ManifestShard {
  std::string path;  // relative to the manifest's folder, or absolute
  uint64_t bytes = 0;
  uint64_t samples = 0;
  uint32_t contents_crc = 0;
};

// Where a sample lies in its shard: bytes [offset, offset + size) of the (inflated) tar, and their CRC32C.
struct SamplePlace {
  uint64_t offset = 0;
  uint32_t size = 0;
  uint32_t crc = 0;
};
static_assert(sizeof(SamplePlace) == 16);

struct LocatedSample {
  int64_t shard = 0;
  int64_t index = 0;
  SamplePlace place;
};

// What is laid over the shards: a list of samples that are left out, or a column of values.
struct ManifestOverlay {
  std::string path;
  uint64_t samples = 0;
  std::string sha256;
  std::string column;  // its name; "": an exclusion
};

// The identity of shards without overlays: what checkpoints hold (FORMAT.md).
std::string ManifestHash(std::span<const ManifestShard> shards);

class ManifestWriter {
 public:
  static StatusOr<std::unique_ptr<ManifestWriter>> Create(const std::string& path);
  Status Add(const ManifestShard& shard, std::span<const SamplePlace> places);
  // Nothing is at `path` before this.
  Status Finish();

 private:
  ManifestWriter(std::string path, std::unique_ptr<WritableFile> places)
      : path_(std::move(path)), places_(std::move(places)) {}

  std::string path_;
  std::unique_ptr<WritableFile> places_;
  std::vector<ManifestShard> shards_;
};

class Manifest {
 public:
  static StatusOr<std::unique_ptr<Manifest>> Open(const std::string& path);

  const std::vector<ManifestShard>& shards() const { return shards_; }
  const std::vector<ManifestOverlay>& overlays() const { return overlays_; }
  // The shard's file, seen from the working directory.
  std::string ShardPath(int64_t shard) const;
  // With overlays: over their hashes, too.
  const std::string& hash() const { return hash_; }

  // Without the excluded ones.
  int64_t num_samples() const {
    return static_cast<int64_t>(first_sample_.back() - excluded_.size());
  }
  std::vector<uint64_t> ShardSizes() const;
  // REQUIRES: 0 <= id < num_samples(). Fills shard and index only.
  LocatedSample Find(int64_t id) const;
  // REQUIRES: the same.
  StatusOr<LocatedSample> Locate(int64_t id) const;
  // Of sample `index` of the shard, excluded or not.
  StatusOr<SamplePlace> PlaceOf(int64_t shard, int64_t index) const;

  // Lays an exclusion of (shard, index) over the manifest and writes both; samples that are excluded already are skipped.
  // The number of new ones.
  StatusOr<int64_t> Exclude(std::vector<std::pair<int64_t, int64_t>> samples);
  // Lays a column over the manifest and writes both. REQUIRES: each (shard, index) is a sample.
  Status AddColumn(const std::string& name, std::vector<ColumnValue> values);

  // Whether a column has a value for the sample, and the value: of the column that was laid over last.
  bool HasColumnValue(std::string_view name, int64_t shard, int64_t index) const;
  StatusOr<std::optional<std::string_view>> ColumnValueOf(std::string_view name, int64_t shard,
                                                          int64_t index) const;
  const std::vector<std::unique_ptr<ColumnOverlay>>& columns() const { return columns_; }

 private:
  explicit Manifest(std::string path) : path_(std::move(path)) {}
  Status Parse(const std::string& text);
  Status ParseLine(const std::vector<std::string>& fields);
  Status ReadOverlay(const ManifestOverlay& overlay);
  Status OpenColumn(const ManifestOverlay& overlay);
  Status Write() const;
  Status OpenPlaces();
  // After the shards and overlays are known.
  void Finish();

  std::string path_;
  std::vector<ManifestShard> shards_;
  std::vector<ManifestOverlay> overlays_;
  // Those of overlays_ that are columns, in their order.
  std::vector<std::unique_ptr<ColumnOverlay>> columns_;
  std::string hash_;
  // Per shard, and the total: samples before it; bytes of the file before its places.
  std::vector<uint64_t> first_sample_{0};
  RangeFinder shard_of_;
  std::vector<uint64_t> first_byte_;
  // Rising positions in the sequence of all samples.
  std::vector<uint64_t> excluded_;
  std::unique_ptr<PagedFile> places_;
};

// Whether a path of a recipe names a manifest and not a shard: NAME.manifest.
bool IsManifestPath(const std::string& path);

}  // namespace weft
