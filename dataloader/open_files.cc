#include "dataloader/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace weft {

OpenFile::~OpenFile() {
  if (fd_ >= 0) ::close(fd_);
}

StatusOr<DiskIdentity> IdentityOf(const std::string& path, int fd) {
  struct stat st = {};
  if (::fstat(fd, &st) != 0) return ErrnoStatus("stat shard " + path, errno);
  return DiskIdentity{static_cast<uint64_t>(st.st_size),
                      int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec};
}

Status ShardChanged(const std::string& path) {
  return Unavailable("shard " + path +
                     " changed while it was in use: bring back the file that the run began with");
}

StatusOr<std::shared_ptr<const OpenFile>> OpenFiles::Get(const std::shared_ptr<Slot>& slot) {
  slot->used.store(++uses_, std::memory_order_relaxed);
  if (std::shared_ptr<const OpenFile> file = slot->file.load()) return file;
  MutexLock lock(mutex_);
  // Another thread may have opened it in between.
  if (std::shared_ptr<const OpenFile> file = slot->file.load()) return file;
  auto file = std::make_shared<const OpenFile>(::open(slot->path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file->fd() < 0) return ErrnoStatus("open shard " + slot->path, errno);
  WEFT_ASSIGN_OR_RETURN(const DiskIdentity now, IdentityOf(slot->path, file->fd()));
  if (!(now == slot->identity)) {
    return ShardChanged(slot->path);
  }
  if (open_.size() >= most_) {
    const auto oldest = std::min_element(
        open_.begin(), open_.end(), [](const auto& a, const auto& b) { return a->used < b->used; });
    (*oldest)->file.store(nullptr);
    open_.erase(oldest);
  }
  slot->file.store(file);
  open_.push_back(slot);
  return std::shared_ptr<const OpenFile>(std::move(file));
}

}  // namespace weft
