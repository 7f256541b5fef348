#include "dataloader/disk_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "dataloader/cache_ledger.h"

namespace weft {
namespace {

constexpr std::string_view kMark = "WEFTCHK1";
constexpr char kMarkFile[] = ".weft-cache";
constexpr std::string_view kPart = ".part";
constexpr std::string_view kEnding = ".chunk";
constexpr size_t kKeySize = 64;
constexpr std::chrono::hours kGone{1};
// Another process holds the lock for as long as it looks through the folder.
constexpr std::chrono::seconds kLockWait{10};
// What nobody can take in is not looked for again in a full folder before this has passed.
constexpr std::chrono::seconds kListAgain{60};
// Room is made for this part of the limit at once.
constexpr uint64_t kSlack = 64;

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

WallClock::time_point ToTime(const timespec& time) {
  return WallClock::time_point(
      std::chrono::seconds(time.tv_sec) +
      std::chrono::duration_cast<WallClock::duration>(std::chrono::nanoseconds(time.tv_nsec)));
}

bool HasMark(int fd) {
  char mark[8];
  return ReadAllAt(fd, 0, mark, sizeof mark) && std::string_view(mark, 8) == kMark;
}

bool IsOwn(const std::string& path) {
  const auto file = OpenCacheFile(path, O_RDONLY | O_NOFOLLOW);
  return file->fd() < 0 || HasMark(file->fd());
}

bool PayloadIsWhole(int fd, const Head& head) {
  constexpr uint64_t kBlock = uint64_t{1} << 18;
  const auto block = std::make_unique<char[]>(kBlock);
  uint32_t crc = 0;
  for (uint64_t at = 0; at < head.bytes; at += kBlock) {
    const auto size = static_cast<size_t>(std::min(kBlock, head.bytes - at));
    if (!ReadAllAt(fd, sizeof head + at, block.get(), size)) return false;
    crc = Crc32c(block.get(), size, crc);
  }
  return crc == head.crc;
}

}  // namespace

Status CacheEntry::ReadAt(uint64_t offset, size_t size, void* out) const {
  if (offset + size <= bytes_ && ReadAllAt(file_->fd(), sizeof(Head) + offset, out, size))
    return OkStatus();
  return Unavailable("an entry of the cache ends too early or cannot be read");
}

StatusOr<std::unique_ptr<DiskCache>> DiskCache::Open(const std::string& folder,
                                                     uint64_t limit_bytes,
                                                     std::function<WallClock::time_point()> now) {
  FileSystem* fs = PosixFileSystem();
  const std::string mark = JoinPath(folder, kMarkFile);
  if (!fs->Exists(mark)) {
    if (fs->Exists(folder)) {
      WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(folder));
      // Another process may just have begun the cache.
      if (!names.empty() && !fs->Exists(mark)) {
        return FailedPrecondition(folder + " holds files that are not the cache's, as '" +
                                  names[0] + "': give the cache a folder of its own");
      }
    }
    WEFT_RETURN_IF_ERROR(fs->MakeDirs(folder));
    if (::chmod(folder.c_str(), 0700) != 0) return ErrnoStatus("chmod " + folder, errno);
    const auto file = OpenCacheFile(mark, O_WRONLY | O_CREAT);
    if (file->fd() < 0) return ErrnoStatus("create " + mark, errno);
  }
  std::unique_ptr<DiskCache> cache(new DiskCache(folder, limit_bytes, std::move(now)));
  CacheLedger ledger = cache->Ledger(kLockWait);
  WEFT_RETURN_IF_ERROR(ledger.status());
  if (!ledger.locked())
    return DeadlineExceeded("another process holds the lock of the cache " + folder);
  CacheAccount* const account = ledger.account();
  if (!ledger.valid()) cache->Recount(account);
  account->limit = limit_bytes;
  if (account->bytes > limit_bytes) cache->Evict(0, WallClock::time_point::max(), account);
  ledger.Save();
  return cache;
}

std::string DiskCache::Key(std::string_view address, std::string_view identity, uint64_t begin,
                           uint64_t end) {
  std::string text = std::to_string(address.size()) + " ";
  text.append(address);
  text += " " + std::to_string(identity.size()) + " ";
  text.append(identity);
  return Sha256Hex(text + " " + std::to_string(begin) + " " + std::to_string(end));
}

CacheLedger DiskCache::Ledger(Duration wait) const {
  return CacheLedger(JoinPath(folder_, kMarkFile), wait);
}

std::string DiskCache::Path(const std::string& key) const {
  return JoinPath(folder_, key + std::string(kEnding));
}

WallClock::time_point DiskCache::TimeOf(Duration next_use) const {
  return now_() + std::chrono::duration_cast<WallClock::duration>(next_use);
}

void DiskCache::SetNextUse(int fd, Duration next_use) const {
  const timespec times[2] = {ToTimespec(now_()), ToTimespec(TimeOf(next_use))};
  ::futimens(fd, times);
}

void DiskCache::Touch(const std::string& key, Duration next_use) const {
  const timespec times[2] = {ToTimespec(now_()), ToTimespec(TimeOf(next_use))};
  if (::utimensat(AT_FDCWD, Path(key).c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) return;
  // Readers do not wait for each other: a bound that is too low lasts until the folder is listed again.
  CacheLedger ledger = Ledger(Duration(0));
  const int64_t use_ns = TimeOf(next_use).time_since_epoch() / std::chrono::nanoseconds(1);
  if (!ledger.locked() || !ledger.valid() || use_ns <= ledger.account()->latest) return;
  ledger.account()->latest = use_ns;
  ledger.Save();
}

StatusOr<std::optional<CacheEntry>> DiskCache::Find(const std::string& key, bool whole) const {
  // Reading must not change the time of access.
  std::shared_ptr<const OpenFile> file =
      OpenCacheFile(Path(key), O_RDONLY | O_NOFOLLOW | O_NOATIME);
  if (file->fd() < 0 && errno == EPERM) file = OpenCacheFile(Path(key), O_RDONLY | O_NOFOLLOW);
  if (file->fd() < 0 && errno == ENOENT) return std::optional<CacheEntry>();
  if (file->fd() < 0) return ErrnoStatus("open " + Path(key), errno);
  Head head;
  struct stat st = {};
  if (!ReadAllAt(file->fd(), 0, &head, sizeof head) || ::fstat(file->fd(), &st) != 0 ||
      std::string_view(head.mark, 8) != kMark || std::string_view(head.key, kKeySize) != key ||
      head.bytes != static_cast<uint64_t>(st.st_size) - sizeof head ||
      (whole && !PayloadIsWhole(file->fd(), head))) {
    return std::optional<CacheEntry>();
  }
  return std::optional<CacheEntry>(CacheEntry(std::move(file), head.bytes, st.st_ino));
}

StatusOr<std::optional<std::string>> DiskCache::Get(const std::string& key,
                                                    Duration next_use) const {
  WEFT_ASSIGN_OR_RETURN(const std::optional<CacheEntry> entry, Find(key, true));
  if (!entry) return std::optional<std::string>();
  std::string bytes(entry->bytes(), '\0');
  if (!entry->ReadAt(0, bytes.size(), bytes.data()).ok()) return std::optional<std::string>();
  Touch(key, next_use);
  return std::optional<std::string>(std::move(bytes));
}

StatusOr<bool> DiskCache::Put(const std::string& key, std::string_view bytes,
                              Duration next_use) const {
  WEFT_ASSIGN_OR_RETURN(const bool room, Reserve(bytes.size(), next_use));
  if (!room) return false;
  return Fill(key, bytes, next_use);
}

StatusOr<bool> DiskCache::Reserve(uint64_t bytes, Duration next_use) const {
  CacheLedger ledger = Ledger(kLockWait);
  WEFT_RETURN_IF_ERROR(ledger.status());
  if (!ledger.locked()) return false;
  if (!ledger.valid()) Recount(ledger.account());
  const bool room = MakeRoom(sizeof(Head) + bytes, TimeOf(next_use), ledger.account());
  ledger.Save();
  return room;
}

void DiskCache::Release(uint64_t bytes) const {
  CacheLedger ledger = Ledger(kLockWait);
  if (!ledger.locked() || !ledger.valid()) return;  // the next listing sets the count right
  ledger.account()->bytes -= std::min(ledger.account()->bytes, sizeof(Head) + bytes);
  ledger.Save();
}

StatusOr<std::shared_ptr<const OpenFile>> DiskCache::CreatePart(std::string* path) const {
  // Under the folder's lock, so that no sweep sees it without its own.
  const CacheLedger ledger = Ledger(kLockWait);
  WEFT_RETURN_IF_ERROR(ledger.status());
  auto file = std::make_shared<const OpenFile>(::mkostemp(path->data(), O_CLOEXEC));
  if (file->fd() < 0) return ErrnoStatus("create " + *path, errno);
  if (::flock(file->fd(), LOCK_EX | LOCK_NB) != 0) return ErrnoStatus("lock " + *path, errno);
  return std::shared_ptr<const OpenFile>(std::move(file));
}

StatusOr<bool> DiskCache::Fill(const std::string& key, std::string_view bytes,
                               Duration next_use) const {
  if (key.size() != kKeySize)
    return InvalidArgument("a cache key is 64 hex digits, not '" + key + "'");
  Head head = {};
  std::memcpy(head.mark, kMark.data(), sizeof head.mark);
  std::memcpy(head.key, key.data(), kKeySize);
  head.bytes = bytes.size();
  head.crc = Crc32c(bytes.data(), bytes.size());
  std::string part = JoinPath(folder_, std::string(kPart) + "-XXXXXX");
  StatusOr<std::shared_ptr<const OpenFile>> created = CreatePart(&part);
  if (!created.ok()) {
    Release(bytes.size());
    return created.status();
  }
  const std::shared_ptr<const OpenFile> file = std::move(*created);
  Status status;
  if ((!WriteAll(file->fd(), {reinterpret_cast<const char*>(&head), sizeof head}) ||
       !WriteAll(file->fd(), bytes)))
    status = ErrnoStatus("write " + part, errno);
  if (status.ok()) {
    SetNextUse(file->fd(), next_use);
    if (::rename(part.c_str(), Path(key).c_str()) == 0) return true;
    status = ErrnoStatus("rename " + part, errno);
  }
  ::unlink(part.c_str());
  Release(bytes.size());
  if (status.code() == StatusCode::kResourceExhausted) return false;  // a full disk is a full cache
  return status;
}

std::vector<DiskCache::Entry> DiskCache::List() const {
  std::vector<Entry> entries;
  const StatusOr<std::vector<std::string>> names = PosixFileSystem()->ListDir(folder_);
  if (!names.ok()) return entries;
  const WallClock::time_point now = now_();
  for (const std::string& name : *names) {
    Entry entry{JoinPath(folder_, name), 0, {}, false};
    struct stat st = {};
    if (!IsEntryName(name) || ::lstat(entry.path.c_str(), &st) != 0 || !S_ISREG(st.st_mode))
      continue;
    entry.bytes = static_cast<uint64_t>(st.st_size);
    entry.next_use = ToTime(st.st_mtim);
    const auto told_to_wait = std::max(entry.next_use - ToTime(st.st_atim), {});
    entry.gone = entry.next_use < now - kGone && entry.next_use < now - kGone - told_to_wait;
    entries.push_back(std::move(entry));
  }
  return entries;
}

void DiskCache::Recount(CacheAccount* account) const {
  account->limit = limit_;
  account->bytes = SweepParts();
  for (const Entry& entry : List()) account->bytes += entry.bytes;
  account->latest = INT64_MAX;
  account->listed = 0;
}

uint64_t DiskCache::SweepParts() const {
  uint64_t bytes = 0;
  const StatusOr<std::vector<std::string>> names = PosixFileSystem()->ListDir(folder_);
  if (!names.ok()) return bytes;
  for (const std::string& name : *names) {
    if (!name.starts_with(kPart)) continue;
    const std::string path = JoinPath(folder_, name);
    const auto file = OpenCacheFile(path, O_RDONLY | O_NOFOLLOW);
    struct stat st = {};
    if (file->fd() < 0 || ::fstat(file->fd(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    const bool own = st.st_size == 0 || HasMark(file->fd());
    if (own && ::flock(file->fd(), LOCK_EX | LOCK_NB) == 0) {
      ::unlink(path.c_str());
    } else {
      bytes += static_cast<uint64_t>(st.st_size);
    }
  }
  return bytes;
}

bool DiskCache::MakeRoom(uint64_t bytes, WallClock::time_point next_use,
                         CacheAccount* account) const {
  if (bytes > account->limit) return false;
  const int64_t use_ns = next_use.time_since_epoch() / std::chrono::nanoseconds(1);
  const int64_t now_ns = now_().time_since_epoch() / std::chrono::nanoseconds(1);
  if (account->bytes > account->limit - bytes) {
    const bool known =
        std::abs(now_ns - account->listed) < std::chrono::nanoseconds(kListAgain).count();
    if (known && account->bytes <= account->limit && use_ns >= account->latest) return false;
    if (!Evict(bytes, next_use, account)) return false;
  }
  account->bytes += bytes;
  account->latest = std::max(account->latest, use_ns);
  return true;
}

bool DiskCache::Evict(uint64_t bytes, WallClock::time_point next_use, CacheAccount* account) const {
  std::vector<Entry> entries = List();
  uint64_t total = SweepParts();
  for (const Entry& entry : entries) total += entry.bytes;
  // What goes first is first: of runs that are gone the oldest, then what is needed latest.
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    if (a.gone != b.gone) return a.gone;
    return a.gone ? a.next_use < b.next_use : a.next_use > b.next_use;
  });
  const uint64_t room = account->limit - bytes;
  uint64_t slack = account->limit / kSlack;
  uint64_t left = total;
  WallClock::time_point latest{};
  std::vector<const Entry*> victims;
  for (const Entry& entry : entries) {
    const bool enough = left <= room && entry.bytes > slack;
    const bool sooner = left <= account->limit && !entry.gone && entry.next_use <= next_use;
    if (enough || sooner || !IsOwn(entry.path)) {
      if (!entry.gone) latest = std::max(latest, entry.next_use);
      if (enough || sooner) break;
      continue;
    }
    if (left <= room) slack -= entry.bytes;
    left -= entry.bytes;
    victims.push_back(&entry);
  }
  // Nothing goes in vain, but for what is above the limit.
  if (left > room && total <= account->limit) {
    for (const Entry* victim : victims) latest = std::max(latest, victim->next_use);
    victims.clear();
  }
  for (const Entry* victim : victims) {
    ::unlink(victim->path.c_str());
    total -= victim->bytes;
  }
  account->bytes = total;
  account->latest = latest.time_since_epoch() / std::chrono::nanoseconds(1);
  account->listed = now_().time_since_epoch() / std::chrono::nanoseconds(1);
  return total <= room;
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
