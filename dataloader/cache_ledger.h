// The account of a disk cache: how much it may hold and holds, in one small file of its folder, under that file's lock.
//
// Errors: the file system's. Thread rule: a ledger belongs to one thread; any number of threads and processes may have one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "dataloader/open_files.h"

namespace weft {

// As it lies in the file.
struct CacheAccount {
  char mark[8];
  uint64_t limit;
  // Of all entries and of what is in the making: at least.
  uint64_t bytes;
  // No entry is needed later; ns since the epoch.
  int64_t latest;
  // When the folder was listed last; ns since the epoch.
  int64_t listed;
  uint32_t reserved;
  uint32_t crc;  // of all before it
};
static_assert(sizeof(CacheAccount) == 48);

// The account, locked as long as this lives, written back by Save.
class CacheLedger {
 public:
  // Who gets no lock within `wait` goes on without the account: a cache may forget.
  CacheLedger(const std::string& path, Duration wait);
  const Status& status() const { return status_; }
  bool locked() const { return locked_; }
  // Whether there was an account; else all of it is to be set.
  bool valid() const { return valid_; }
  CacheAccount* account() { return &account_; }
  // Where this fails, the next reader finds no account and lists the folder.
  void Save();

 private:
  uint32_t Crc() const;

  std::shared_ptr<const OpenFile> file_;
  Status status_;
  bool locked_ = false;
  bool valid_ = false;
  CacheAccount account_ = {};
};

// A file of the cache's folder: as open(2), new ones for their owner only.
std::shared_ptr<const OpenFile> OpenCacheFile(const std::string& path, int flags);
// False: the file ends before, or cannot be read.
bool ReadAllAt(int fd, uint64_t offset, void* out, size_t size);

}  // namespace weft
