// A shard's bytes, read at offsets. A shard compressed with gzip or zstd (told by its first bytes, whatever its name) is
// inflated once into an unlinked temporary file, because samples are read in any order.
//
// Errors: NotFound, InvalidArgument (permission), Unavailable (I/O), Corruption (a read past the end, a broken compressed
// stream); messages name the shard. Thread rule: reads are safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "cluster/base/status.h"
#include "dataloader/open_files.h"

namespace weft {

// Bytes at offsets, wherever they come from.
class ShardBytes {
 public:
  virtual ~ShardBytes() = default;
  virtual const std::string& path() const = 0;
  // After inflating.
  virtual uint64_t size() const = 0;
  // Exactly `size` bytes from `offset`.
  virtual Status ReadAt(uint64_t offset, size_t size, void* out) const = 0;
  // CRC32C of `size` bytes from `offset`, continued from `crc`.
  virtual StatusOr<uint32_t> Checksum(uint64_t offset, uint64_t size, uint32_t crc) const = 0;
};

class ShardFile : public ShardBytes {
 public:
  // With `files` no descriptor is kept but by them (an inflated shard keeps its own).
  static StatusOr<std::unique_ptr<ShardFile>> Open(const std::string& path,
                                                   std::shared_ptr<OpenFiles> files = nullptr);
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, size_t size, void* out) const override;
  StatusOr<uint32_t> Checksum(uint64_t offset, uint64_t size, uint32_t crc) const override;
  // Tells the kernel that bytes [offset, offset + size) come next: it reads them while others are in use.
  void Announce(uint64_t offset, uint64_t size) const;
  // Of the file as it lies on disk: bytes, and the time of its last change in ns.
  uint64_t disk_bytes() const { return identity_.bytes; }
  int64_t disk_time() const { return identity_.time_ns; }
  // Whether the bytes are an inflated copy on local disk.
  bool inflated() const { return inflated_; }
  // Errors: Unavailable (the file on disk is not the one that was opened).
  Status CheckUnchanged() const;

 private:
  explicit ShardFile(std::string path) : path_(std::move(path)) {}
  StatusOr<std::shared_ptr<const OpenFile>> File() const;

  std::string path_;
  // One of the two.
  std::shared_ptr<const OpenFile> own_;
  std::shared_ptr<OpenFiles> files_;
  std::shared_ptr<OpenFiles::Slot> slot_;
  uint64_t size_ = 0;
  bool inflated_ = false;
  DiskIdentity identity_;
};

}  // namespace weft
