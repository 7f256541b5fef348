// A file mapped for reading.
//
// Errors: NotFound, InvalidArgument (permission), Unavailable; messages name the path. Thread rule: immutable.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "cluster/base/status.h"

namespace weft {

class MappedFile {
 public:
  static StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}

  const char* data_;
  size_t size_;
};

}  // namespace weft
