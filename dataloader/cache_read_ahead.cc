#include "dataloader/cache_read_ahead.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cluster/base/logging.h"
#include "dataloader/data_set.h"

namespace weft {
namespace {

constexpr auto kPause = std::chrono::milliseconds(20);
constexpr auto kReportEvery = std::chrono::seconds(60);
// A chunk whose window stays open for long is said to be in use again after this.
constexpr auto kTellAgain = std::chrono::minutes(10);
// Chunks that wait for the fetching threads at a time.
constexpr size_t kMaxWaiting = 64;

// Steps by which data.batcher moves rows, at most.
int64_t StepsOfBucket(const DataRecipe& data, const SampleOrder& order) {
  if (data.batcher().group() == BatcherRecipe::NONE) return 0;
  return (data.batcher().bucket() + order.global_batch() - 1) / order.global_batch();
}

std::vector<bool> SlotsOfNode(const LoaderOptions& options) {
  std::vector<bool> of_slot(static_cast<size_t>(options.batch.slots()), options.node_slots.empty());
  for (const int slot : options.node_slots) of_slot[static_cast<size_t>(slot)] = true;
  return of_slot;
}

double Megabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

}  // namespace

StatusOr<std::unique_ptr<CacheReadAhead>> CacheReadAhead::Open(const LoaderOptions& options,
                                                               const SampleMix& mix,
                                                               const SampleOrder& order) {
  if (!options.data.has_cache_dir()) return std::unique_ptr<CacheReadAhead>();
  bool any = false;
  for (int set = 0; set < mix.num_sets(); ++set) any |= mix.source(set).data_set() != nullptr;
  if (!any) {
    WEFT_LOG(INFO) << "data.cache_dir: these samples do not lie in shards of their own; "
                      "data.index_dir on a local disk serves blocks of text";
    return std::unique_ptr<CacheReadAhead>();
  }
  ChunkCacheOptions cache_options;
  cache_options.folder = options.data.cache_dir();
  cache_options.limit_bytes = static_cast<uint64_t>(options.data.cache_bytes());
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<ChunkCache> cache, ChunkCache::Open(cache_options));
  if (cache == nullptr) return std::unique_ptr<CacheReadAhead>();
  for (int set = 0; set < mix.num_sets(); ++set) {
    DataSet* const data = mix.source(set).data_set();
    if (data != nullptr) data->ReadThrough(cache.get(), options.data.order().chunk());
  }
  return std::unique_ptr<CacheReadAhead>(new CacheReadAhead(options, mix, order, std::move(cache)));
}

CacheReadAhead::CacheReadAhead(const LoaderOptions& options, const SampleMix& mix,
                               const SampleOrder& order, std::unique_ptr<ChunkCache> cache)
    : options_(options),
      mix_(mix),
      order_(order),
      cache_(std::move(cache)),
      of_slot_(SlotsOfNode(options)),
      gap_((options.data.order().window() + order.rows_per_lane() - 1) / order.rows_per_lane() + 1),
      stray_(StepsOfBucket(options.data, order)),
      horizon_(stray_ + order.steps_per_window() + options.data.prefetch()),
      step_(options.first_step),
      walked_(options.first_step),
      thread_([this] { Run(); }) {}

CacheReadAhead::~CacheReadAhead() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

void CacheReadAhead::Run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    mutex_.Unlock();
    const bool ahead = walked_ >= std::min(options_.end_step, step_ + horizon_);
    const bool busy = ahead || cache_->waiting() >= kMaxWaiting;
    if (!busy) WalkStep();
    FinishVisits();
    if (Clock::now() - reported_ >= kReportEvery) Report();
    mutex_.Lock();
    if (busy && !stopping_) wake_.WaitUntil(mutex_, Clock::now() + kPause);
  }
  mutex_.Unlock();
  // Whoever comes next finds out what is needed when.
  ending_ = true;
  FinishVisits();
  Report();
  mutex_.Lock();
}

void CacheReadAhead::WalkStep() {
  for (const int slot : options_.slots) {
    for (const SampleRef& sample : order_.Rows(walked_, slot)) {
      const SampleSource& source = mix_.source(sample.set);
      if (source.data_set() == nullptr) continue;
      parts_.clear();
      source.AppendParts(static_cast<int64_t>(sample.id), &parts_);
      for (const int64_t part : parts_) Visit(source.data_set()->ChunkOf(part), sample);
    }
  }
  ++walked_;
}

void CacheReadAhead::Visit(const ChunkRef& ref, const SampleRef& sample) {
  if (ref.shard == nullptr) return;
  const auto [visit, is_new] = visits_.try_emplace(ref);
  visit->second.last_step = walked_;
  if (!is_new) return;
  visit->second.set = sample.set;
  visit->second.id = sample.id;
  visit->second.told = Clock::now();
  cache_->Expect(ref, TimeUntil(walked_ - stray_));
}

void CacheReadAhead::FinishVisits() {
  const int64_t step = step_;
  const TimePoint now = Clock::now();
  for (auto it = visits_.begin(); it != visits_.end();) {
    OpenVisit& visit = it->second;
    // In an open window a chunk comes again within so many steps.
    const int64_t seen = std::min(options_.end_step, visit.last_step + gap_);
    if (!ending_ && (visit.last_step + stray_ >= step || walked_ < seen)) {
      if (now - visit.told > kTellAgain) {
        cache_->Keep(it->first);
        visit.told = now;
      }
      ++it;
      continue;
    }
    const int64_t from = ending_ ? step + 1 : std::max(visit.last_step + 1, step);
    cache_->Finish(it->first, TimeUntil(order_.NextNeed(visit.set, visit.id, from, of_slot_)));
    it = visits_.erase(it);
  }
}

Duration CacheReadAhead::TimeUntil(int64_t step) const {
  const int64_t now = step_;
  const double passed = ToSeconds(Clock::now() - start_);
  const int64_t steps = now - options_.first_step;
  const double pace = steps > 0 ? passed / static_cast<double>(steps) : 1.0;
  // 30 years are for ever.
  return FromSeconds(std::clamp(static_cast<double>(step - now) * pace, 0.0, 1e9));
}

void CacheReadAhead::Report() {
  reported_ = Clock::now();
  WEFT_LOG(INFO) << Describe(cache_->figures());
}

std::string Describe(const ChunkCacheFigures& figures) {
  const uint64_t bytes = figures.hit_bytes + figures.missed_bytes;
  char text[256];
  std::snprintf(text, sizeof text,
                "data cache: %.1f %% of %.0f MB came from it; of the chunks %llu were there, %llu "
                "(%.0f MB) were fetched from shards, %llu times there was no room",
                bytes == 0 ? 0 : 100 * Megabytes(figures.hit_bytes) / Megabytes(bytes),
                Megabytes(bytes), static_cast<unsigned long long>(figures.chunks_there),
                static_cast<unsigned long long>(figures.chunks_fetched),
                Megabytes(figures.fetched_bytes),
                static_cast<unsigned long long>(figures.chunks_refused));
  return text;
}

}  // namespace weft
