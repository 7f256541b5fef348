// Descriptors of a data set's shards: at most so many at a time, the one that was not used for longest is closed first. So a
// set may have any number of shards. A file that is opened again must be the one that it was.
//
// Errors: NotFound, Unavailable (I/O; the file changed); messages name the file. Thread rule: safe from any thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>

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

class OpenFiles {
 public:
  explicit OpenFiles(size_t most) : most_(most) {}
  StatusOr<std::shared_ptr<const OpenFile>> Get(const std::string& path,
                                                const DiskIdentity& identity);

 private:
  struct Entry {
    std::string path;
    std::shared_ptr<const OpenFile> file;
  };

  const size_t most_;
  Mutex mutex_;
  // Used last first.
  std::list<Entry> entries_ WEFT_GUARDED_BY(mutex_);
  std::map<std::string, std::list<Entry>::iterator> by_path_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft
