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
#include <vector>

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
  // A part of the cache with a lock of its own. A page is in one of the kWays slots of its set, and pushes out the set's
  // oldest page. (With one slot a page a fifth of a batch's pages would push each other out, with eight one in thousands.)
  struct Stripe {
    Mutex mutex;
    std::vector<uint64_t> pages WEFT_GUARDED_BY(mutex);  // of each slot; kNone: empty
    std::vector<uint8_t> oldest WEFT_GUARDED_BY(mutex);  // of each set
    std::unique_ptr<char[]> bytes WEFT_GUARDED_BY(mutex);
  };
  static constexpr size_t kStripes = 16;
  static constexpr size_t kWays = 8;
  static constexpr size_t kSlots = kMaxHeld / kStripes;
  static constexpr uint64_t kNone = ~uint64_t{0};

  PagedFile(std::string path, int fd, uint64_t size);
  Status Fill(uint64_t page, char* bytes) const;

  const std::string path_;
  const int fd_;
  const uint64_t size_;
  mutable std::array<Stripe, kStripes> stripes_;
};

}  // namespace weft
