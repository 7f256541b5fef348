// A shard's bytes, read at offsets. A gzip'ed shard (magic 1F 8B, whatever its name) is inflated once into an unlinked
// temporary file, because samples are read in any order.
//
// Errors: NotFound, InvalidArgument (permission), Unavailable (I/O), Corruption (a read past the end, a broken gzip
// stream); messages name the shard. Thread rule: reads are safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "cluster/base/status.h"

namespace weft {

class ShardFile {
 public:
  static StatusOr<std::unique_ptr<ShardFile>> Open(const std::string& path);
  ~ShardFile();
  ShardFile(const ShardFile&) = delete;
  ShardFile& operator=(const ShardFile&) = delete;

  const std::string& path() const { return path_; }
  // Bytes of the tar, after inflating.
  uint64_t size() const { return size_; }
  // Exactly `size` bytes from `offset`.
  Status ReadAt(uint64_t offset, size_t size, void* out) const;

 private:
  ShardFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_;
  uint64_t size_;
};

}  // namespace weft
