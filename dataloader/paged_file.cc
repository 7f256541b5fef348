#include "dataloader/paged_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cluster/base/hash.h"

namespace weft {

StatusOr<std::unique_ptr<PagedFile>> PagedFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("open " + path, errno);
  struct stat st = {};
  if (::fstat(fd, &st) != 0) {
    const Status status = ErrnoStatus("stat " + path, errno);
    ::close(fd);
    return status;
  }
  // No neighbours are read ahead.
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  return std::unique_ptr<PagedFile>(new PagedFile(path, fd, static_cast<uint64_t>(st.st_size)));
}

PagedFile::PagedFile(std::string path, int fd, uint64_t size)
    : path_(std::move(path)), fd_(fd), size_(size) {
  for (Stripe& stripe : stripes_) {
    MutexLock lock(stripe.mutex);
    stripe.pages.assign(kSlots, kNone);
    stripe.oldest.assign(kSlots / kWays, 0);
    // Not initialised: memory comes with the first page that is put there.
    stripe.bytes.reset(new char[kSlots * kPage]);
  }
}

PagedFile::~PagedFile() { ::close(fd_); }

Status PagedFile::Fill(uint64_t page, char* bytes) const {
  const uint64_t begin = page * kPage;
  size_t done = 0;
  const auto wanted = static_cast<size_t>(std::min(kPage, size_ - begin));
  while (done < wanted) {
    const ssize_t n = ::pread(fd_, bytes + done, wanted - done, static_cast<off_t>(begin + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("read " + path_, errno);
    if (n == 0) return Corruption(path_ + " was cut while it was open");
    done += static_cast<size_t>(n);
  }
  return OkStatus();
}

Status PagedFile::ReadAt(uint64_t offset, size_t size, void* out) const {
  if (offset > size_ || size > size_ - offset)
    return Corruption(path_ + ": ends at byte " + std::to_string(size_) + ", before what is read");
  const uint64_t page = offset / kPage;
  const uint64_t hash = Mix64(page);
  Stripe& stripe = stripes_[hash % kStripes];
  const size_t set = hash / kStripes % (kSlots / kWays);
  MutexLock lock(stripe.mutex);
  const auto first = stripe.pages.begin() + static_cast<std::ptrdiff_t>(set * kWays);
  auto slot = std::find(first, first + kWays, page);
  if (slot == first + kWays) {
    slot = first + stripe.oldest[set];
    stripe.oldest[set] = static_cast<uint8_t>((stripe.oldest[set] + 1) % kWays);
    *slot = kNone;
    WEFT_RETURN_IF_ERROR(
        Fill(page, stripe.bytes.get() + static_cast<size_t>(slot - stripe.pages.begin()) * kPage));
    *slot = page;
  }
  const char* bytes = stripe.bytes.get() + static_cast<size_t>(slot - stripe.pages.begin()) * kPage;
  std::memcpy(out, bytes + offset % kPage, size);
  return OkStatus();
}

}  // namespace weft
