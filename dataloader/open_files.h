// Descriptors of a data set's shards: at most so many at a time, the one that was not used for longest is closed first. So a
// set may have any number of shards. A file that is opened again must be the one that it was.
//
// Errors: NotFound, Unavailable (I/O; the file changed); messages name the file. Thread rule: safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"

namespace weft {

// Closed with its last user.
class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

// What tells that a file is still the same.
struct DiskIdentity {
  uint64_t bytes = 0;
  int64_t time_ns = 0;
  friend bool operator==(const DiskIdentity&, const DiskIdentity&) = default;
};
// Errors: Unavailable.
StatusOr<DiskIdentity> IdentityOf(const std::string& path, int fd);

// Unavailable, with the remedy.
Status ShardChanged(const std::string& path);

class OpenFiles {
 public:
  // One file's place among them.
  struct Slot {
    Slot(std::string path_of, const DiskIdentity& identity_of)
        : path(std::move(path_of)), identity(identity_of) {}
    const std::string path;
    const DiskIdentity identity;
    // Null: closed.
    std::atomic<std::shared_ptr<const OpenFile>> file;
    // Of the last use, in the order of all uses.
    std::atomic<uint64_t> used = 0;
  };

  explicit OpenFiles(size_t most) : most_(most) {}
  // Takes no lock where the file is open.
  StatusOr<std::shared_ptr<const OpenFile>> Get(const std::shared_ptr<Slot>& slot);

 private:
  const size_t most_;
  std::atomic<uint64_t> uses_ = 0;
  Mutex mutex_;
  std::vector<std::shared_ptr<Slot>> open_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft
