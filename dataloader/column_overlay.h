// A column that is laid over a data set: values of one member (a caption, a score) by (shard, index), in a file beside the
// manifest. Shards never change: captions written anew are a new column (FORMAT.md).
//
// Opening reads the head and one number a shard; each value has a checksum of its own, which is looked at when it is read.
//
// Errors: NotFound, Corruption; messages name the file. Thread rule: immutable once open.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/mapped_file.h"

namespace weft {

struct ColumnValue {
  int64_t shard = 0;
  int64_t index = 0;
  std::string value;
};

class ColumnOverlay {
 public:
  // `sha256`: which file it must be. `shard_samples`: of each shard of the manifest.
  static StatusOr<std::unique_ptr<ColumnOverlay>> Open(const std::string& path,
                                                       const std::string& sha256,
                                                       std::span<const uint64_t> shard_samples);

  // The member's extension.
  const std::string& name() const { return name_; }
  uint64_t num_values() const { return entries_.size(); }
  bool Has(int64_t shard, int64_t index) const { return Find(shard, index) != nullptr; }
  // Nothing: the column has no value for this sample.
  StatusOr<std::optional<std::string_view>> Read(int64_t shard, int64_t index) const;

 private:
  struct Entry {
    uint64_t begin;
    uint32_t size;
    uint32_t index;  // in the shard; rising within a shard
    uint32_t crc;    // CRC32C of the value
    uint32_t reserved;
  };
  static_assert(sizeof(Entry) == 24);

  friend StatusOr<std::string> WriteColumnOverlay(const std::string& path, const std::string& name,
                                                  size_t num_shards,
                                                  std::vector<ColumnValue> values);

  explicit ColumnOverlay(std::string path) : path_(std::move(path)) {}
  const Entry* Find(int64_t shard, int64_t index) const;

  std::string path_;
  std::string name_;
  std::shared_ptr<const MappedFile> file_;
  std::span<const uint64_t> first_;  // entries before each shard, and all
  std::span<const Entry> entries_;
  std::string_view values_;
};

// Writes the file durably; its SHA-256. A later value for the same sample replaces an earlier one.
// REQUIRES: each shard is in [0, num_shards).
StatusOr<std::string> WriteColumnOverlay(const std::string& path, const std::string& name,
                                         size_t num_shards, std::vector<ColumnValue> values);

}  // namespace weft
