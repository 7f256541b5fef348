// The disk cache as the loader's threads see it: bytes of chunks that are there, and threads that fetch whole chunks from their
// shards before they are needed. A chunk that the order says comes (Expect) is fetched once, kept as long as its window is
// open, and then goes or stays by its next use (Finish).
//
// Nobody waits for a fetch: what is not there yet is read from the shard by its reader. Nor does anything that happens to the
// cache's disk end a run: no room, no permission, a folder or a chunk that is gone, damaged bytes. Then shards are read directly,
// one line of the log says so, and a minute later the cache is tried again.
//
// A chunk's checksum is compared once, when it is found. The files of chunks in use are kept open, as many as a quarter of
// the process's descriptors; one that was closed and then evicted is fetched again.
//
// Memory: one chunk (CachedShard::kMaxChunkBytes) a fetching thread. Thread rule: safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "dataloader/disk_cache.h"

namespace weft {

class CachedShard;

struct ChunkRef {
  const CachedShard* shard = nullptr;
  uint32_t chunk = 0;
  friend bool operator==(const ChunkRef&, const ChunkRef&) = default;
};

struct ChunkRefHash {
  size_t operator()(const ChunkRef& ref) const {
    return std::hash<const void*>()(ref.shard) * 31 + ref.chunk;
  }
};

struct ChunkCacheOptions {
  std::string folder;
  uint64_t limit_bytes = 0;
  int fetchers = 4;
};

// Since the start.
struct ChunkCacheFigures {
  // Bytes that readers asked for: from the cache, and from shards because they were not there.
  uint64_t hit_bytes = 0;
  uint64_t missed_bytes = 0;
  // Chunks that were expected and there, and that were fetched; bytes of the latter.
  uint64_t chunks_there = 0;
  uint64_t chunks_fetched = 0;
  uint64_t fetched_bytes = 0;
  // Chunks for which there was no room.
  uint64_t chunks_refused = 0;
};

class ChunkCache {
 public:
  // nullptr: the disk does not serve; the log says why. Errors: FailedPrecondition (the folder is not the cache's).
  static StatusOr<std::unique_ptr<ChunkCache>> Open(const ChunkCacheOptions& options);
  ~ChunkCache();
  ChunkCache(const ChunkCache&) = delete;
  ChunkCache& operator=(const ChunkCache&) = delete;

  // Bytes of the chunk. False: it is not there (it is on its way then, if it can be kept).
  bool Read(const ChunkRef& ref, uint64_t offset, size_t size, void* out);
  // The chunk is first needed in `first_use`.
  void Expect(const ChunkRef& ref, Duration first_use);
  // It is still in use.
  void Keep(const ChunkRef& ref);
  // It is not needed for `next_use`.
  void Finish(const ChunkRef& ref, Duration next_use);
  // Chunks that wait to be looked for or fetched.
  size_t waiting() const;
  ChunkCacheFigures figures() const;

 private:
  enum class Stage {
    kExpected,  // nobody has looked for it
    kLooking,   // a thread does
    kAbsent,    // it is not there, and is to be fetched
    kFetching,
    kThere,
    kDirect,  // it cannot be had now
  };
  struct Chunk {
    Stage stage = Stage::kExpected;
    std::string key;
    TimePoint first_use;
    // kFetching: its window was over before it came; the next one begins then.
    std::optional<TimePoint> next_use;
    // kDirect: when it is worth another try.
    TimePoint retry;
    // kThere: the file that was found whole; and open, if it is in open_.
    uint64_t file_number = 0;
    std::shared_ptr<const CacheEntry> entry;
    std::list<ChunkRef>::iterator use;
  };
  // How fetching a chunk ended: the entry, or when to try again.
  struct Fetched {
    std::optional<CacheEntry> entry;
    Duration retry{};
  };

  ChunkCache(const ChunkCacheOptions& options, std::unique_ptr<DiskCache> disk);
  void FetchLoop();
  // Looks on the disk for a chunk that is kLooking: it is kThere or kAbsent then. Without the lock in between.
  Stage Look(const ChunkRef& ref, TimePoint first_use) WEFT_REQUIRES(mutex_);
  void Fetch(const ChunkRef& ref, std::string* buffer) WEFT_REQUIRES(mutex_);
  Fetched TryFetch(const ChunkRef& ref, const std::string& key, TimePoint first_use,
                   std::string* buffer);
  StatusOr<Fetched> FetchAndKeep(const ChunkRef& ref, const std::string& key, Duration first_use,
                                 std::string* buffer);
  // The chunk's entry, open; nullptr: not there. Puts it on its way.
  std::shared_ptr<const CacheEntry> EntryOf(const ChunkRef& ref);
  std::shared_ptr<const CacheEntry> Reopen(const ChunkRef& ref, const std::string& key,
                                           uint64_t file_number);
  void FetchNext(const ChunkRef& ref, Chunk* chunk) WEFT_REQUIRES(mutex_);
  void SetOpen(const ChunkRef& ref, Chunk* chunk, CacheEntry entry) WEFT_REQUIRES(mutex_);
  void Close(Chunk* chunk) WEFT_REQUIRES(mutex_);
  void LogFailure(const Status& status);

  const ChunkCacheOptions options_;
  const std::unique_ptr<DiskCache> disk_;
  const size_t most_open_;

  mutable Mutex mutex_;
  CondVar work_;
  CondVar looked_;
  std::unordered_map<ChunkRef, Chunk, ChunkRefHash> chunks_ WEFT_GUARDED_BY(mutex_);
  std::deque<ChunkRef> queue_ WEFT_GUARDED_BY(mutex_);
  // Chunks whose file is open, the one used last in front.
  std::list<ChunkRef> open_ WEFT_GUARDED_BY(mutex_);
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  // Where keeping chunks failed: not before this.
  TimePoint keep_again_ WEFT_GUARDED_BY(mutex_);
  bool logged_ WEFT_GUARDED_BY(mutex_) = false;

  std::atomic<uint64_t> hit_bytes_ = 0;
  std::atomic<uint64_t> missed_bytes_ = 0;
  std::atomic<uint64_t> chunks_there_ = 0;
  std::atomic<uint64_t> chunks_fetched_ = 0;
  std::atomic<uint64_t> fetched_bytes_ = 0;
  std::atomic<uint64_t> chunks_refused_ = 0;

  std::vector<std::thread> fetchers_;
};

}  // namespace weft
