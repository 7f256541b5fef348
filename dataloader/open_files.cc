#include "dataloader/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

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

StatusOr<std::shared_ptr<const OpenFile>> OpenFiles::Get(const std::string& path,
                                                         const DiskIdentity& identity) {
  MutexLock lock(mutex_);
  const auto found = by_path_.find(path);
  if (found != by_path_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front().file;
  }
  auto file = std::make_shared<const OpenFile>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file->fd() < 0) return ErrnoStatus("open shard " + path, errno);
  WEFT_ASSIGN_OR_RETURN(const DiskIdentity now, IdentityOf(path, file->fd()));
  if (!(now == identity)) {
    return Unavailable("shard " + path +
                       " changed while it was in use: bring back the file that the run began with");
  }
  if (entries_.size() >= most_) {
    by_path_.erase(entries_.back().path);
    entries_.pop_back();
  }
  entries_.push_front({path, file});
  by_path_[path] = entries_.begin();
  return std::shared_ptr<const OpenFile>(std::move(file));
}

}  // namespace weft
