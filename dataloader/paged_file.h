// Small reads at random places of a large file, a page (4 KiB) at a time, through a cache of bounded size. Pages are read
// and not mapped: mapped neighbours would count as the process's memory, and a file that was cut would be a signal.
//
// Errors: NotFound, InvalidArgument (permission), Unavailable, Corruption (a read past the end); messages name the path.
// Thread rule: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"

namespace weft {

class PagedFile {
 public:
  static constexpr uint64_t kPage = 4096;
  // Pages that are held at most: 64 MiB.
  static constexpr size_t kMaxHeld = 16384;

  static StatusOr<std::unique_ptr<PagedFile>> Open(const std::string& path);
  ~PagedFile();
  PagedFile(const PagedFile&) = delete;
  PagedFile& operator=(const PagedFile&) = delete;

  uint64_t size() const { return size_; }
  // REQUIRES: all of it lies in one page.
  Status ReadAt(uint64_t offset, size_t size, void* out) const;

 private:
  using Page = std::array<char, kPage>;

  PagedFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}
  Status Fill(uint64_t page, Page* bytes) const;

  const std::string path_;
  const int fd_;
  const uint64_t size_;
  mutable Mutex mutex_;
  mutable std::unordered_map<uint64_t, std::unique_ptr<Page>> held_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft
