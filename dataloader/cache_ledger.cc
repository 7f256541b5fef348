#include "dataloader/cache_ledger.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr std::string_view kMark = "WEFTACC1";

bool Lock(int fd, Duration wait) {
  const TimePoint deadline = Clock::now() + wait;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (Clock::now() >= deadline) return false;
    ::usleep(1000);
  }
  return true;
}

}  // namespace

std::shared_ptr<const OpenFile> OpenCacheFile(const std::string& path, int flags) {
  return std::make_shared<const OpenFile>(::open(path.c_str(), flags | O_CLOEXEC, 0600));
}

bool ReadAllAt(int fd, uint64_t offset, void* out, size_t size) {
  auto* at = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = ::pread(fd, at, size, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    offset += static_cast<uint64_t>(n);
    size -= static_cast<size_t>(n);
  }
  return true;
}

CacheLedger::CacheLedger(const std::string& path, Duration wait)
    : file_(OpenCacheFile(path, O_RDWR)) {
  if (file_->fd() < 0) {
    status_ = ErrnoStatus("open the cache's " + path, errno);
    return;
  }
  locked_ = Lock(file_->fd(), wait);
  if (!locked_) return;
  valid_ = ReadAllAt(file_->fd(), 0, &account_, sizeof account_) &&
           std::string_view(account_.mark, sizeof account_.mark) == kMark && account_.crc == Crc();
}

void CacheLedger::Save() {
  std::memcpy(account_.mark, kMark.data(), sizeof account_.mark);
  account_.reserved = 0;
  account_.crc = Crc();
  if (::pwrite(file_->fd(), &account_, sizeof account_, 0) < 0) return;
}

uint32_t CacheLedger::Crc() const { return Crc32c(&account_, offsetof(CacheAccount, crc)); }

}  // namespace weft
