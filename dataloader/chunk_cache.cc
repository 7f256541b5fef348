#include "dataloader/chunk_cache.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "dataloader/cached_shard.h"

namespace weft {
namespace {

constexpr auto kWakeUp = std::chrono::seconds(10);
// Until then a reader waits for a thread that looks for the same chunk on the local disk.
constexpr auto kLookWait = std::chrono::seconds(10);
// A chunk for which there was no room, and a cache that failed, are tried again after this.
constexpr auto kRoomAgain = std::chrono::milliseconds(500);
constexpr auto kFailedAgain = std::chrono::minutes(1);

size_t MostOpen() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return static_cast<size_t>(std::clamp<rlim_t>(limit.rlim_cur / 4, 64, 4096));
}

}  // namespace

StatusOr<std::unique_ptr<ChunkCache>> ChunkCache::Open(const ChunkCacheOptions& options) {
  StatusOr<std::unique_ptr<DiskCache>> disk = DiskCache::Open(options.folder, options.limit_bytes);
  if (!disk.ok() && disk.status().code() == StatusCode::kFailedPrecondition)
    return disk.status().WithContext("data.cache_dir");
  if (!disk.ok()) {
    WEFT_LOG(WARNING) << "data.cache_dir: " << disk.status().message()
                      << "; this process reads its shards directly";
    return std::unique_ptr<ChunkCache>();
  }
  return std::unique_ptr<ChunkCache>(new ChunkCache(options, std::move(*disk)));
}

ChunkCache::ChunkCache(const ChunkCacheOptions& options, std::unique_ptr<DiskCache> disk)
    : options_(options), disk_(std::move(disk)), most_open_(MostOpen()) {
  for (int i = 0; i < options.fetchers; ++i) fetchers_.emplace_back([this] { FetchLoop(); });
}

ChunkCache::~ChunkCache() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.NotifyAll();
  for (std::thread& fetcher : fetchers_) fetcher.join();
}

bool ChunkCache::Read(const ChunkRef& ref, uint64_t offset, size_t size, void* out) {
  const std::shared_ptr<const CacheEntry> entry = EntryOf(ref);
  if (entry != nullptr && entry->ReadAt(offset, size, out).ok()) {
    hit_bytes_.fetch_add(size, std::memory_order_relaxed);
    return true;
  }
  missed_bytes_.fetch_add(size, std::memory_order_relaxed);
  if (entry == nullptr) return false;
  // The disk does not give back what it took.
  MutexLock lock(mutex_);
  const auto found = chunks_.find(ref);
  if (found == chunks_.end() || found->second.stage != Stage::kThere) return false;
  Close(&found->second);
  found->second.stage = Stage::kDirect;
  found->second.retry = Clock::now() + kFailedAgain;
  return false;
}

std::shared_ptr<const CacheEntry> ChunkCache::EntryOf(const ChunkRef& ref) {
  std::string key;
  uint64_t file_number = 0;
  {
    MutexLock lock(mutex_);
    const TimePoint deadline = Clock::now() + kLookWait;
    while (true) {
      Chunk& chunk = chunks_[ref];
      if (chunk.stage == Stage::kExpected) {
        if (Look(ref, Clock::now()) == Stage::kAbsent) FetchNext(ref, &chunks_[ref]);
        continue;
      }
      if (chunk.stage == Stage::kLooking && looked_.WaitUntil(mutex_, deadline)) continue;
      if (chunk.stage == Stage::kThere && chunk.entry != nullptr) {
        open_.splice(open_.begin(), open_, chunk.use);
        return chunk.entry;
      }
      if (chunk.stage == Stage::kDirect && Clock::now() >= chunk.retry) FetchNext(ref, &chunk);
      if (chunk.stage != Stage::kThere) return nullptr;
      key = chunk.key;
      file_number = chunk.file_number;
      break;
    }
  }
  return Reopen(ref, key, file_number);
}

std::shared_ptr<const CacheEntry> ChunkCache::Reopen(const ChunkRef& ref, const std::string& key,
                                                     uint64_t file_number) {
  StatusOr<std::optional<CacheEntry>> entry = disk_->Find(key, false);
  MutexLock lock(mutex_);
  const auto found = chunks_.find(ref);
  if (found == chunks_.end() || found->second.stage != Stage::kThere) return nullptr;
  Chunk& chunk = found->second;
  if (!entry.ok() || !*entry || (*entry)->file_number() != file_number) {
    // Another process evicted it, and may have brought it again.
    Close(&chunk);
    FetchNext(ref, &chunk);
    return nullptr;
  }
  if (chunk.entry == nullptr) SetOpen(ref, &chunk, std::move(**entry));
  return chunk.entry;
}

void ChunkCache::Expect(const ChunkRef& ref, Duration first_use) {
  MutexLock lock(mutex_);
  const auto [found, is_new] = chunks_.try_emplace(ref);
  found->second.next_use.reset();
  if (!is_new) return;
  found->second.first_use = Clock::now() + first_use;
  queue_.push_back(ref);
  work_.NotifyOne();
}

void ChunkCache::Keep(const ChunkRef& ref) {
  std::string key;
  {
    MutexLock lock(mutex_);
    const auto found = chunks_.find(ref);
    if (found == chunks_.end() || found->second.stage != Stage::kThere) return;
    key = found->second.key;
  }
  disk_->Touch(key, Duration(0));
}

void ChunkCache::Finish(const ChunkRef& ref, Duration next_use) {
  std::string key;
  {
    MutexLock lock(mutex_);
    const auto found = chunks_.find(ref);
    if (found == chunks_.end()) return;
    if (found->second.stage == Stage::kFetching) {
      found->second.next_use = Clock::now() + next_use;
      return;
    }
    if (found->second.stage == Stage::kThere) key = found->second.key;
    Close(&found->second);
    chunks_.erase(found);
  }
  if (!key.empty()) disk_->Touch(key, next_use);
}

void ChunkCache::FetchNext(const ChunkRef& ref, Chunk* chunk) {
  chunk->stage = Stage::kAbsent;
  chunk->first_use = Clock::now();
  queue_.push_front(ref);
  work_.NotifyOne();
}

void ChunkCache::SetOpen(const ChunkRef& ref, Chunk* chunk, CacheEntry entry) {
  while (open_.size() >= most_open_) Close(&chunks_.at(open_.back()));
  chunk->entry = std::make_shared<const CacheEntry>(std::move(entry));
  open_.push_front(ref);
  chunk->use = open_.begin();
}

void ChunkCache::Close(Chunk* chunk) {
  if (chunk->entry == nullptr) return;
  chunk->entry = nullptr;
  open_.erase(chunk->use);
}

void ChunkCache::FetchLoop() {
  std::string buffer;
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (queue_.empty()) {
      work_.WaitUntil(mutex_, Clock::now() + kWakeUp);
      continue;
    }
    const ChunkRef ref = queue_.front();
    queue_.pop_front();
    const auto found = chunks_.find(ref);
    if (found == chunks_.end()) continue;  // finished before it came
    Stage stage = found->second.stage;
    if (stage == Stage::kExpected) stage = Look(ref, found->second.first_use);
    if (stage == Stage::kAbsent) Fetch(ref, &buffer);
  }
}

ChunkCache::Stage ChunkCache::Look(const ChunkRef& ref, TimePoint first_use) {
  chunks_[ref].stage = Stage::kLooking;
  mutex_.Unlock();
  const std::string key = ref.shard->KeyOf(ref.chunk);
  const StatusOr<std::optional<CacheEntry>> there = disk_->Find(key, true);
  const bool found = there.ok() && there->has_value();
  if (found) disk_->Touch(key, std::max(Duration(0), Duration(first_use - Clock::now())));
  mutex_.Lock();
  // Finish may have forgotten it meanwhile; then it begins anew.
  Chunk& chunk = chunks_[ref];
  chunk.key = key;
  chunk.stage = found ? Stage::kThere : Stage::kAbsent;
  // It is opened when it is used.
  if (found) chunk.file_number = (*there)->file_number();
  if (found) chunks_there_.fetch_add(1, std::memory_order_relaxed);
  looked_.NotifyAll();
  return chunk.stage;
}

void ChunkCache::Fetch(const ChunkRef& ref, std::string* buffer) {
  Chunk& wanted = chunks_[ref];
  wanted.stage = Stage::kFetching;
  const std::string key = wanted.key.empty() ? ref.shard->KeyOf(ref.chunk) : wanted.key;
  const TimePoint first_use = wanted.first_use;
  mutex_.Unlock();
  const Fetched fetched = TryFetch(ref, key, first_use, buffer);
  mutex_.Lock();
  const auto found = chunks_.find(ref);
  if (found == chunks_.end() || found->second.stage != Stage::kFetching) return;
  Chunk& chunk = found->second;
  chunk.key = key;
  chunk.stage = fetched.entry ? Stage::kThere : Stage::kDirect;
  chunk.retry = Clock::now() + fetched.retry;
  if (fetched.entry) chunk.file_number = fetched.entry->file_number();
  if (!chunk.next_use) return;
  const Duration next_use = *chunk.next_use - Clock::now();
  chunks_.erase(found);
  mutex_.Unlock();
  if (fetched.entry) disk_->Touch(key, std::max(Duration(0), next_use));
  mutex_.Lock();
}

ChunkCache::Fetched ChunkCache::TryFetch(const ChunkRef& ref, const std::string& key,
                                         TimePoint first_use, std::string* buffer) {
  {
    MutexLock lock(mutex_);
    if (Clock::now() < keep_again_) return {std::nullopt, kFailedAgain};
  }
  const Duration until = std::max(Duration(0), Duration(first_use - Clock::now()));
  StatusOr<Fetched> fetched = FetchAndKeep(ref, key, until, buffer);
  if (fetched.ok()) return std::move(*fetched);
  LogFailure(fetched.status());
  return {std::nullopt, kFailedAgain};
}

StatusOr<ChunkCache::Fetched> ChunkCache::FetchAndKeep(const ChunkRef& ref, const std::string& key,
                                                       Duration first_use, std::string* buffer) {
  const uint64_t bytes = ref.shard->BytesOf(ref.chunk);
  WEFT_ASSIGN_OR_RETURN(const bool room, disk_->Reserve(bytes, first_use));
  if (!room) {
    chunks_refused_.fetch_add(1, std::memory_order_relaxed);
    return Fetched{std::nullopt, kRoomAgain};
  }
  const Status fetched = ref.shard->Fetch(ref.chunk, buffer);
  if (!fetched.ok()) {
    // Whoever reads these bytes will hear of it, if it is so for them, too.
    disk_->Release(bytes);
    return Fetched{std::nullopt, kFailedAgain};
  }
  chunks_fetched_.fetch_add(1, std::memory_order_relaxed);
  fetched_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  WEFT_ASSIGN_OR_RETURN(const bool kept, disk_->Fill(key, *buffer, first_use));
  if (!kept) return ResourceExhausted("no space is left on the disk of " + options_.folder);
  WEFT_ASSIGN_OR_RETURN(std::optional<CacheEntry> entry, disk_->Find(key, false));
  return Fetched{std::move(entry), kRoomAgain};
}

void ChunkCache::LogFailure(const Status& status) {
  MutexLock lock(mutex_);
  keep_again_ = Clock::now() + kFailedAgain;
  if (std::exchange(logged_, true)) return;
  WEFT_LOG(WARNING) << "data.cache_dir: " << status.message()
                    << "; what is not there is read from the shards directly (the cache is tried "
                       "again every minute)";
}

size_t ChunkCache::waiting() const {
  MutexLock lock(mutex_);
  return queue_.size();
}

ChunkCacheFigures ChunkCache::figures() const {
  return {hit_bytes_,      missed_bytes_,  chunks_there_,
          chunks_fetched_, fetched_bytes_, chunks_refused_};
}

}  // namespace weft
