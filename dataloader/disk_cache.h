// A cache of chunks on local disk, shared by the processes of a node and by runs: what came over the network once lies here
// under a key that says what it holds (a hash of the shard's identity and the range, never a name).
//
// * It keeps its files in a folder that it made, removes only files that carry its mark, and refuses a folder with anything
//   else in it: a shard that exists once only can't be lost to it.
// * A file appears under its name when it is whole, with a checksum: a process that is killed leaves nothing that is read,
//   and the part that it wrote goes when room is made. A damaged file counts as not there.
// * What is needed latest goes first (the order says when): the time of next use is the file's modification time, so that
//   processes see each other's; the time of access says when that was told. A file that nobody asked for although its time
//   passed more than an hour ago, and longer ago than it had been told to wait, belongs to a run that is gone, and goes before
//   all others. What would be needed later than all that is there is not taken in.
// * The bytes that are there are counted in one small file, so that the folder is listed only to make room: for 1/64 of the
//   limit at a time, where that is more than a chunk. The count is never too low, and a listing sets it right.
// * One limit a folder: that of the process that opened it last; what is above it goes then.
// * Files are 0600, folders 0700. An entry that is open while another process removes it stays readable.
//
// Errors: FailedPrecondition (the folder is not the cache's), the file system's; messages name the path. A missing or damaged
// entry is none. Thread rule: any thread, any process; changes of the folder are under a file lock.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "dataloader/open_files.h"

namespace weft {

using WallClock = std::chrono::system_clock;

struct CacheAccount;
class CacheLedger;

// An entry that is open: readable until its last user is gone, whatever becomes of the cache.
class CacheEntry {
 public:
  CacheEntry(std::shared_ptr<const OpenFile> file, uint64_t bytes, uint64_t file_number)
      : file_(std::move(file)), bytes_(bytes), file_number_(file_number) {}
  uint64_t bytes() const { return bytes_; }
  // Of the file: another file under the same name has another one.
  uint64_t file_number() const { return file_number_; }
  // Errors: Unavailable.
  Status ReadAt(uint64_t offset, size_t size, void* out) const;

 private:
  std::shared_ptr<const OpenFile> file_;
  uint64_t bytes_;
  uint64_t file_number_;
};

class DiskCache {
 public:
  struct Stats {
    uint64_t bytes = 0;
    int64_t entries = 0;
  };

  // Makes the folder if it is not there. `now`: for tests.
  static StatusOr<std::unique_ptr<DiskCache>> Open(
      const std::string& folder, uint64_t limit_bytes,
      std::function<WallClock::time_point()> now = [] { return WallClock::now(); });

  // The entry; nothing if it is not there or damaged. `whole`: reads it all and compares the checksum.
  StatusOr<std::optional<CacheEntry>> Find(const std::string& key, bool whole) const;
  // Says when the entry is needed next, from now. One that is not there stays so.
  void Touch(const std::string& key, Duration next_use) const;
  // All of the entry's bytes, and Touch.
  StatusOr<std::optional<std::string>> Get(const std::string& key, Duration next_use) const;

  // Keeps the bytes, unless all that would have to go for them is needed earlier. False: they were not kept.
  // REQUIRES: the same key always means the same bytes.
  StatusOr<bool> Put(const std::string& key, std::string_view bytes, Duration next_use) const;
  // Put in two steps, for bytes that are worth fetching only if they can be kept: room for so many, or false; then the bytes,
  // or Release.
  StatusOr<bool> Reserve(uint64_t bytes, Duration next_use) const;
  StatusOr<bool> Fill(const std::string& key, std::string_view bytes, Duration next_use) const;
  void Release(uint64_t bytes) const;
  Stats Count() const;

  // The key of a part of a source: its address, what tells its contents (etag, or size and time), and the range.
  static std::string Key(std::string_view address, std::string_view identity, uint64_t begin,
                         uint64_t end);

 private:
  struct Entry {
    std::string path;
    uint64_t bytes = 0;
    WallClock::time_point next_use;
    bool gone = false;
  };

  DiskCache(std::string folder, uint64_t limit, std::function<WallClock::time_point()> now)
      : folder_(std::move(folder)), limit_(limit), now_(std::move(now)) {}
  CacheLedger Ledger(Duration wait) const;
  std::string Path(const std::string& key) const;
  WallClock::time_point TimeOf(Duration next_use) const;
  void SetNextUse(int fd, Duration next_use) const;
  // Files that carry an entry's name.
  std::vector<Entry> List() const;
  // A file of this writer's own, which exists as long as the writer holds it open or renames it. `path` ends in XXXXXX.
  StatusOr<std::shared_ptr<const OpenFile>> CreatePart(std::string* path) const;
  // What writers have in the making, of whom those that are gone lose theirs.
  uint64_t SweepParts() const;
  // An account from what is there.
  void Recount(CacheAccount* account) const;
  // Removes what is needed latest until `bytes` fit, but nothing that is needed before `next_use`. False: they do not fit.
  bool MakeRoom(uint64_t bytes, WallClock::time_point next_use, CacheAccount* account) const;
  bool Evict(uint64_t bytes, WallClock::time_point next_use, CacheAccount* account) const;

  const std::string folder_;
  // That this process asked for; the account's holds.
  const uint64_t limit_;
  const std::function<WallClock::time_point()> now_;
};

}  // namespace weft
