#include "dataloader/disk_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr std::string_view kMark = "WEFTCHK1";
constexpr char kMarkFile[] = ".weft-cache";
constexpr std::string_view kEnding = ".chunk";
constexpr size_t kKeySize = 64;
constexpr std::chrono::hours kGone{1};
constexpr std::chrono::seconds kLockWait{10};

struct Head {
  char mark[8];
  char key[kKeySize];
  uint64_t bytes;
  uint32_t crc;  // of the bytes
  uint32_t reserved;
};
static_assert(sizeof(Head) == 88);

bool IsEntryName(std::string_view name) {
  return name.size() == kKeySize + kEnding.size() && name.ends_with(kEnding) &&
         name.substr(0, kKeySize).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

bool ReadAll(int fd, void* out, size_t size) {
  auto* at = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = ::read(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

timespec ToTimespec(WallClock::time_point time) {
  const auto ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

void SetNextUse(int fd, WallClock::time_point time) {
  const timespec times[2] = {ToTimespec(time), ToTimespec(time)};
  ::futimens(fd, times);
}

// Another process holds it for as long as it looks through the folder and writes one chunk. A cache may forget: whoever
// waits too long goes on without it.
bool Lock(int fd) {
  const TimePoint deadline = Clock::now() + kLockWait;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (Clock::now() > deadline) return false;
    ::usleep(1000);
  }
  return true;
}

bool HasMark(const std::string& path) {
  const OpenFile file(path, O_RDONLY | O_NOFOLLOW);
  char mark[8];
  return file.fd() >= 0 && ReadAll(file.fd(), mark, sizeof mark) &&
         std::string_view(mark, 8) == kMark;
}

}  // namespace

StatusOr<std::unique_ptr<DiskCache>> DiskCache::Open(const std::string& folder,
                                                     uint64_t limit_bytes,
                                                     std::function<WallClock::time_point()> now) {
  FileSystem* fs = PosixFileSystem();
  const std::string mark = JoinPath(folder, kMarkFile);
  if (!fs->Exists(mark)) {
    if (fs->Exists(folder)) {
      WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(folder));
      if (!names.empty()) {
        return FailedPrecondition(folder + " holds files that are not the cache's, as '" +
                                  names[0] + "': give the cache a folder of its own");
      }
    }
    WEFT_RETURN_IF_ERROR(fs->MakeDirs(folder));
    if (::chmod(folder.c_str(), 0700) != 0) return ErrnoStatus("chmod " + folder, errno);
    const OpenFile file(mark, O_WRONLY | O_CREAT);
    if (file.fd() < 0) return ErrnoStatus("create " + mark, errno);
  }
  return std::unique_ptr<DiskCache>(new DiskCache(folder, limit_bytes, std::move(now)));
}

std::string DiskCache::Key(std::string_view address, std::string_view identity, uint64_t begin,
                           uint64_t end) {
  std::string text = std::to_string(address.size()) + " ";
  text.append(address);
  text += " " + std::to_string(identity.size()) + " ";
  text.append(identity);
  return Sha256Hex(text + " " + std::to_string(begin) + " " + std::to_string(end));
}

std::string DiskCache::Path(const std::string& key) const {
  return JoinPath(folder_, key + std::string(kEnding));
}

StatusOr<std::optional<std::string>> DiskCache::Get(const std::string& key,
                                                    Duration next_use) const {
  const OpenFile file(Path(key), O_RDWR | O_NOFOLLOW);
  if (file.fd() < 0 && errno == ENOENT) return std::optional<std::string>();
  if (file.fd() < 0) return ErrnoStatus("open " + Path(key), errno);
  Head head;
  struct stat st = {};
  if (!ReadAll(file.fd(), &head, sizeof head) || ::fstat(file.fd(), &st) != 0 ||
      std::string_view(head.mark, 8) != kMark || std::string_view(head.key, kKeySize) != key ||
      head.bytes != static_cast<uint64_t>(st.st_size) - sizeof head) {
    return std::optional<std::string>();
  }
  std::string bytes(head.bytes, '\0');
  if (!ReadAll(file.fd(), bytes.data(), bytes.size()) ||
      Crc32c(bytes.data(), bytes.size()) != head.crc) {
    return std::optional<std::string>();
  }
  SetNextUse(file.fd(), now_() + std::chrono::duration_cast<WallClock::duration>(next_use));
  return std::optional<std::string>(std::move(bytes));
}

StatusOr<bool> DiskCache::Put(const std::string& key, std::string_view bytes,
                              Duration next_use) const {
  if (key.size() != kKeySize)
    return InvalidArgument("a cache key is 64 hex digits, not '" + key + "'");
  const OpenFile lock(JoinPath(folder_, kMarkFile), O_RDWR);
  if (lock.fd() < 0) return ErrnoStatus("open the cache " + folder_, errno);
  if (!Lock(lock.fd())) return false;
  const WallClock::time_point use =
      now_() + std::chrono::duration_cast<WallClock::duration>(next_use);
  if (!MakeRoom(sizeof(Head) + bytes.size(), use)) return false;
  Head head = {};
  std::memcpy(head.mark, kMark.data(), sizeof head.mark);
  std::memcpy(head.key, key.data(), kKeySize);
  head.bytes = bytes.size();
  head.crc = Crc32c(bytes.data(), bytes.size());
  // One writer at a time, so one name is enough; what a killed one left is written over.
  const std::string part = JoinPath(folder_, ".part");
  const OpenFile file(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  if (file.fd() < 0) return ErrnoStatus("create " + part, errno);
  if (!WriteAll(file.fd(), {reinterpret_cast<const char*>(&head), sizeof head}) ||
      !WriteAll(file.fd(), bytes)) {
    const Status status = ErrnoStatus("write " + part, errno);
    ::unlink(part.c_str());
    if (status.code() == StatusCode::kResourceExhausted)
      return false;  // a full disk is a full cache
    return status;
  }
  SetNextUse(file.fd(), use);
  if (::rename(part.c_str(), Path(key).c_str()) != 0) return ErrnoStatus("rename " + part, errno);
  return true;
}

std::vector<DiskCache::Entry> DiskCache::List() const {
  std::vector<Entry> entries;
  const StatusOr<std::vector<std::string>> names = PosixFileSystem()->ListDir(folder_);
  if (!names.ok()) return entries;
  for (const std::string& name : *names) {
    Entry entry{JoinPath(folder_, name), 0, {}};
    struct stat st = {};
    if (!IsEntryName(name) || ::lstat(entry.path.c_str(), &st) != 0 || !S_ISREG(st.st_mode))
      continue;
    entry.bytes = static_cast<uint64_t>(st.st_size);
    entry.next_use = WallClock::time_point(std::chrono::seconds(st.st_mtim.tv_sec) +
                                           std::chrono::duration_cast<WallClock::duration>(
                                               std::chrono::nanoseconds(st.st_mtim.tv_nsec)));
    entries.push_back(std::move(entry));
  }
  return entries;
}

bool DiskCache::MakeRoom(uint64_t bytes, WallClock::time_point next_use) const {
  if (bytes > limit_) return false;
  std::vector<Entry> entries = List();
  uint64_t total = 0;
  for (const Entry& entry : entries) total += entry.bytes;
  if (total <= limit_ - bytes) return true;
  const WallClock::time_point gone = now_() - kGone;
  // What goes first is first: of runs that are gone the oldest, then what is needed latest.
  std::sort(entries.begin(), entries.end(), [gone](const Entry& a, const Entry& b) {
    const bool a_gone = a.next_use < gone;
    const bool b_gone = b.next_use < gone;
    if (a_gone != b_gone) return a_gone;
    return a_gone ? a.next_use < b.next_use : a.next_use > b.next_use;
  });
  std::vector<std::string> victims;
  for (const Entry& entry : entries) {
    if (total <= limit_ - bytes) break;
    if (entry.next_use >= gone && entry.next_use <= next_use) return false;
    if (!HasMark(entry.path)) continue;  // not the cache's own
    victims.push_back(entry.path);
    total -= entry.bytes;
  }
  if (total > limit_ - bytes) return false;
  for (const std::string& path : victims) ::unlink(path.c_str());
  return true;
}

DiskCache::Stats DiskCache::Count() const {
  Stats stats;
  for (const Entry& entry : List()) {
    stats.bytes += entry.bytes;
    ++stats.entries;
  }
  return stats;
}

}  // namespace weft
