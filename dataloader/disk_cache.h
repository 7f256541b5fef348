// A cache of chunks on local disk, shared by the processes of a node and by runs: what came over the network once lies here
// under a key that says what it holds (a hash of the shard's identity and the range, never a name).
//
// * It keeps its files in a folder that it made, removes only files that carry its mark, and refuses a folder with anything
//   else in it: a shard that exists once only can't be lost to it.
// * A file appears under its name when it is whole, with a checksum: a process that is killed leaves nothing that is read.
//   A damaged file counts as not there.
// * What is needed latest goes first (the order says when): the time of next use is the file's modification time, so that
//   processes see each other's. A file whose time passed more than an hour ago belongs to a run that is gone, and goes
//   before all others. What would be needed later than all that is there is not taken in.
// * Files are 0600, folders 0700. An entry that is open while another process removes it stays readable.
//
// Errors: FailedPrecondition (the folder is not the cache's), the file system's; messages name the path. Get never fails
// for a damaged or missing entry. Thread rule: any thread, any process; changes of the folder are under a file lock.
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

namespace weft {

using WallClock = std::chrono::system_clock;

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

  // The entry's bytes; nothing if it is not there or damaged. `next_use`: from now until it is needed again.
  StatusOr<std::optional<std::string>> Get(const std::string& key, Duration next_use) const;
  // Keeps the bytes, unless all that would have to go for them is needed earlier. False: they were not kept.
  // REQUIRES: the same key always means the same bytes.
  StatusOr<bool> Put(const std::string& key, std::string_view bytes, Duration next_use) const;
  Stats Count() const;

  // The key of a part of a source: its address, what tells its contents (etag, or size and time), and the range.
  static std::string Key(std::string_view address, std::string_view identity, uint64_t begin,
                         uint64_t end);

 private:
  struct Entry {
    std::string path;
    uint64_t bytes = 0;
    WallClock::time_point next_use;
  };

  DiskCache(std::string folder, uint64_t limit, std::function<WallClock::time_point()> now)
      : folder_(std::move(folder)), limit_(limit), now_(std::move(now)) {}
  std::string Path(const std::string& key) const;
  // Files that carry the cache's mark.
  std::vector<Entry> List() const;
  // Removes what is needed latest until `bytes` fit, but nothing that is needed before `next_use`. False: they do not fit.
  bool MakeRoom(uint64_t bytes, WallClock::time_point next_use) const;

  const std::string folder_;
  const uint64_t limit_;
  const std::function<WallClock::time_point()> now_;
};

}  // namespace weft
