#include "dataloader/paged_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

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

PagedFile::~PagedFile() { ::close(fd_); }

Status PagedFile::Fill(uint64_t page, Page* bytes) const {
  const uint64_t begin = page * kPage;
  size_t done = 0;
  const auto wanted = static_cast<size_t>(std::min(kPage, size_ - begin));
  while (done < wanted) {
    const ssize_t n =
        ::pread(fd_, bytes->data() + done, wanted - done, static_cast<off_t>(begin + done));
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
  MutexLock lock(mutex_);
  const uint64_t page = offset / kPage;
  auto found = held_.find(page);
  if (found == held_.end()) {
    auto bytes = std::make_unique<Page>();
    WEFT_RETURN_IF_ERROR(Fill(page, bytes.get()));
    if (held_.size() >= kMaxHeld) held_.clear();
    found = held_.emplace(page, std::move(bytes)).first;
  }
  std::memcpy(out, found->second->data() + offset % kPage, size);
  return OkStatus();
}

}  // namespace weft
