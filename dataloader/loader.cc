#include "dataloader/loader.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <set>
#include <thread>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "dataloader/batch_dealer.h"
#include "dataloader/cache_read_ahead.h"
#include "dataloader/order.h"
#include "dataloader/sample_mix.h"
#include "dataloader/thread_times.h"

namespace weft {
namespace {

// Entries of the window that are tried after a bad one; if they are bad too, the data set is not what the recipe thinks.
constexpr int kMaxSubstitutes = 16;
constexpr auto kWakeUp = std::chrono::seconds(10);

Status CheckSlots(const LoaderOptions& options) {
  if (options.slots.empty()) return InvalidArgument("a loader without slots has nothing to load");
  int last = -1;
  for (const int slot : options.slots) {
    if (slot <= last || slot >= options.batch.slots()) {
      return InvalidArgument(
          "slot " + std::to_string(slot) +
          (slot <= last ? " comes after slot " + std::to_string(last)
                        : " is not below batch.slots = " + std::to_string(options.batch.slots())));
    }
    last = slot;
  }
  return OkStatus();
}

Status CheckOptions(const LoaderOptions& options) {
  const BatchRecipe& batch = options.batch;
  if (batch.micro_batch_size() < 1)
    return InvalidArgument("batch.micro_batch_size must be at least 1");
  if (batch.slots() < 1) return InvalidArgument("batch.slots must be at least 1");
  if (batch.micro_batches() < 1) return InvalidArgument("batch.micro_batches must be at least 1");
  if (options.data.vocabulary().empty()) {
    return InvalidArgument(
        "data.vocabulary is not set: name a file of byte-pair merges, such as `weft data vocab` "
        "makes");
  }
  if (options.data.loader_threads() < 1)
    return InvalidArgument("data.loader_threads must be at least 1");
  if (options.data.prefetch() < 1) return InvalidArgument("data.prefetch must be at least 1");
  return OkStatus();
}

// A name that no field has would be a tensor that never comes.
Status CheckFields(const LoaderOptions& options, const std::vector<FieldSpec>& fields) {
  if (!options.fields) return OkStatus();
  for (const std::string& name : *options.fields) {
    std::vector<std::string> has;
    for (const FieldSpec& spec : fields) has.push_back(spec.name);
    if (std::find(has.begin(), has.end(), name) == has.end())
      return InvalidArgument("no field '" + name + "' in these samples; they have " +
                             Join(has, ", "));
  }
  return OkStatus();
}

MicroBatch MakeMicroBatch(const std::vector<FieldSpec>& fields, const LoaderOptions& options,
                          size_t samples) {
  MicroBatch batch;
  batch.sample_ids.resize(samples);
  batch.targets.resize(samples);
  for (const FieldSpec& spec : fields) {
    if (!WantsField(options, spec.name)) continue;
    batch.fields.push_back({spec, std::vector<uint8_t>(samples * spec.bytes_per_row())});
  }
  return batch;
}

class ThreadedLoader : public Loader {
 public:
  ThreadedLoader(const LoaderOptions& options, std::unique_ptr<SampleMix> mix, SampleOrder order)
      : options_(options),
        mix_(std::move(mix)),
        dealer_(options.data, options.batch, options.seed, std::move(order), mix_.get()),
        batch_size_(options.batch.micro_batch_size()),
        micro_batches_(options.batch.micro_batches()),
        per_step_(static_cast<int64_t>(options.slots.size()) * micro_batches_),
        total_((options.end_step - options.first_step) * per_step_),
        opened_(options.skip),
        consumed_(options.skip) {}

  // REQUIRES: nothing else was called before. Errors: those of data.cache_dir.
  Status Start() {
    WEFT_ASSIGN_OR_RETURN(read_ahead_, CacheReadAhead::Open(options_, *mix_, dealer_.order()));
    for (int i = 0; i < options_.data.loader_threads(); ++i) {
      threads_.emplace_back([this] { Work(); });
    }
    return OkStatus();
  }

  ~ThreadedLoader() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    work_.NotifyAll();
    for (std::thread& thread : threads_) thread.join();
  }

  StatusOr<MicroBatch> Next() override {
    MutexLock lock(mutex_);
    if (consumed_ >= total_) {
      return FailedPrecondition("the loader has given all of its " + std::to_string(total_) +
                                " micro-batches");
    }
    Refill();
    while (ring_.front()->left > 0 && failure_.ok())
      ready_.WaitUntil(mutex_, Clock::now() + kWakeUp);
    if (ring_.front()->left > 0) return failure_;
    MicroBatch batch = std::move(ring_.front()->batch);
    ring_.pop_front();
    ++consumed_;
    if (read_ahead_) read_ahead_->Advance(batch.step);
    Refill();
    return batch;
  }

  void Recycle(MicroBatch batch) override {
    MutexLock lock(mutex_);
    if (spare_.size() < kMaxSpare) spare_.push_back(std::move(batch));
  }

  const std::string& manifest_hash() const override { return mix_->manifest_hash(); }
  int64_t num_samples() const override { return mix_->num_samples(); }
  int64_t num_bad_samples() const override {
    MutexLock lock(log_mutex_);
    return static_cast<int64_t>(logged_.size());
  }
  std::vector<FieldSpec> fields() const override {
    std::vector<FieldSpec> wanted;
    for (const FieldSpec& spec : mix_->fields()) {
      if (WantsField(options_, spec.name)) wanted.push_back(spec);
    }
    return wanted;
  }
  LoaderTimes times() const override {
    measured_ = true;
    MutexLock lock(mutex_);
    return times_;
  }

 private:
  static constexpr size_t kMaxSpare = 4;
  // Looking at the clocks costs some microseconds: one row in so many tells where the time goes.
  static constexpr int64_t kMeasuredRows = 8;

  // A micro-batch in the making: rows are handed out one by one, so that all threads work on the one that is due first. The
  // last thread to finish a row says so under the mutex; no row by itself takes it.
  struct Entry {
    MicroBatch batch;
    std::atomic<int64_t> next_row = 0;
    std::atomic<int64_t> left = 0;
  };

  // Opens micro-batches up to the prefetch horizon and wakes the threads.
  void Refill() WEFT_REQUIRES(mutex_) {
    bool added = false;
    while (static_cast<int64_t>(ring_.size()) < options_.data.prefetch() && opened_ < total_) {
      auto entry = std::make_shared<Entry>();
      if (!spare_.empty()) {
        entry->batch = std::move(spare_.back());
        spare_.pop_back();
      } else {
        entry->batch = MakeMicroBatch(mix_->fields(), options_, static_cast<size_t>(batch_size_));
      }
      entry->batch.step = options_.first_step + opened_ / per_step_;
      entry->batch.slot = options_.slots[static_cast<size_t>(opened_ % per_step_ / micro_batches_)];
      entry->batch.micro_batch = static_cast<int>(opened_ % micro_batches_);
      entry->left = batch_size_;
      ring_.push_back(std::move(entry));
      ++opened_;
      added = true;
    }
    if (added) work_.NotifyAll();
  }

  std::shared_ptr<Entry> EntryWithWork() WEFT_REQUIRES(mutex_) {
    for (const std::shared_ptr<Entry>& entry : ring_) {
      if (entry->next_row < batch_size_) return entry;
    }
    return nullptr;
  }

  void Work() {
    const std::unique_ptr<SampleCook> cook = mix_->NewCook();
    ThreadTimes clock;
    MutexLock lock(mutex_);
    Refill();
    while (!stopping_) {
      // Shared: it leaves the ring with its last row, while other threads still see that no row is left.
      const std::shared_ptr<Entry> entry = EntryWithWork();
      if (entry == nullptr) {
        work_.WaitUntil(mutex_, Clock::now() + kWakeUp);
        continue;
      }
      mutex_.Unlock();
      CookRows(cook.get(), &clock, entry.get());
      mutex_.Lock();
    }
  }

  // Rows of the micro-batch until none is left to begin.
  void CookRows(SampleCook* cook, ThreadTimes* clock, Entry* entry) {
    while (!stopping_) {
      const int64_t row = entry->next_row.fetch_add(1);
      if (row >= batch_size_) return;
      const Status status = measured_ && row % kMeasuredRows == 0
                                ? CookMeasured(cook, clock, row, &entry->batch)
                                : CookRow(cook, row, &entry->batch);
      if (status.ok() && entry->left.fetch_sub(1) > 1) continue;
      MutexLock lock(mutex_);
      if (!status.ok()) {
        if (failure_.ok()) failure_ = status;
        stopping_ = true;
      }
      ready_.NotifyAll();
    }
  }

  Status CookMeasured(SampleCook* cook, ThreadTimes* clock, int64_t row, MicroBatch* batch) {
    clock->Start();
    Status status = CookRow(cook, row, batch);
    const LoaderTimes spent = clock->Stop();
    MutexLock lock(mutex_);
    times_.decode_s += spent.decode_s;
    times_.read_s += spent.read_s;
    times_.core_wait_s += spent.core_wait_s;
    return status;
  }

  // Row `row` of the micro-batch, or what stands in for it.
  Status CookRow(SampleCook* cook, int64_t row, MicroBatch* batch) {
    const int64_t row_in_slot = batch->micro_batch * batch_size_ + row;
    int64_t wanted = -1;
    Status last;
    for (int k = 0; k <= kMaxSubstitutes; ++k) {
      WEFT_ASSIGN_OR_RETURN(const SampleRef ref,
                            dealer_.At(batch->step, batch->slot, row_in_slot, k));
      const int64_t id = mix_->Id(ref);
      batch->sample_ids[static_cast<size_t>(row)] = id;
      last = cook->Cook(ref, static_cast<size_t>(row), batch);
      if (last.ok()) {
        if (k > 0) LogSubstitute(wanted, id, *batch, row_in_slot);
        return last;
      }
      last = last.WithContext(mix_->Describe(ref));
      if (!IsBadSample(last)) return last;
      LogBadSample(id, last);
      if (k == 0) wanted = id;
    }
    return Corruption("more than " + std::to_string(kMaxSubstitutes) +
                      " samples in a row are bad; the last one: " + last.message());
  }

  void LogBadSample(int64_t id, const Status& status) {
    MutexLock lock(log_mutex_);
    if (!logged_.insert(id).second) return;
    WEFT_LOG(WARNING) << "bad sample " << id
                      << " is replaced by the next one of its window: " << status.message();
  }

  // Each of them: with these lines the samples of a run are known to the last one.
  static void LogSubstitute(int64_t wanted, int64_t id, const MicroBatch& batch, int64_t row) {
    WEFT_LOG(INFO) << "step " << batch.step << ", slot " << batch.slot << ", row " << row
                   << ": sample " << id << " stands in for bad sample " << wanted;
  }

  const LoaderOptions options_;
  const std::unique_ptr<SampleMix> mix_;
  BatchDealer dealer_;
  const int64_t batch_size_;
  const int64_t micro_batches_;
  const int64_t per_step_;
  // Micro-batches that this loader gives.
  const int64_t total_;

  mutable Mutex mutex_;
  CondVar work_;
  CondVar ready_;
  std::deque<std::shared_ptr<Entry>> ring_ WEFT_GUARDED_BY(mutex_);
  std::vector<MicroBatch> spare_ WEFT_GUARDED_BY(mutex_);
  int64_t opened_ WEFT_GUARDED_BY(mutex_);
  int64_t consumed_ WEFT_GUARDED_BY(mutex_);
  LoaderTimes times_ WEFT_GUARDED_BY(mutex_);
  // Looking at the clocks costs some microseconds a row: not before somebody asks.
  mutable std::atomic<bool> measured_ = false;
  // Set under the mutex, by the destructor or with failure_.
  std::atomic<bool> stopping_ = false;
  Status failure_ WEFT_GUARDED_BY(mutex_);

  mutable Mutex log_mutex_;
  std::set<int64_t> logged_ WEFT_GUARDED_BY(log_mutex_);

  // Null without data.cache_dir. Gone before mix_ and dealer_.
  std::unique_ptr<CacheReadAhead> read_ahead_;
  std::vector<std::thread> threads_;
};

class ShardEvalSet : public EvalSet {
 public:
  ShardEvalSet(const LoaderOptions& options, std::unique_ptr<SampleSource> source)
      : options_(options), source_(std::move(source)), cook_(source_->NewCook()) {}

  int64_t size() const override { return source_->num_samples(); }

  StatusOr<MicroBatch> Read(int64_t begin, int64_t end) override {
    if (begin < 0 || begin > end || end > size()) {
      return InvalidArgument("evaluation samples [" + std::to_string(begin) + ", " +
                             std::to_string(end) + ") are not in [0, " + std::to_string(size()) +
                             ")");
    }
    MicroBatch batch =
        MakeMicroBatch(source_->fields(), options_, static_cast<size_t>(end - begin));
    for (int64_t id = begin; id < end; ++id) {
      const auto row = static_cast<size_t>(id - begin);
      batch.sample_ids[row] = id;
      const Status status = cook_->Cook({0, 0, static_cast<uint64_t>(id)}, row, &batch);
      if (!status.ok()) return status.WithContext(source_->Describe(id));
    }
    return batch;
  }

  StatusOr<EvalSample> Sample(int64_t index) override {
    if (index < 0 || index >= size()) {
      return InvalidArgument("evaluation sample " + std::to_string(index) + " of " +
                             std::to_string(size()));
    }
    StatusOr<EvalSample> sample = source_->ReadRaw(index);
    if (!sample.ok()) return sample.status().WithContext(source_->Describe(index));
    return sample;
  }

 private:
  const LoaderOptions options_;
  const std::unique_ptr<SampleSource> source_;
  const std::unique_ptr<SampleCook> cook_;
};

}  // namespace

StatusOr<std::unique_ptr<Loader>> Loader::Open(const LoaderOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  WEFT_RETURN_IF_ERROR(CheckSlots(options));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SampleMix> mix, SampleMix::Open(options));
  WEFT_RETURN_IF_ERROR(CheckFields(options, mix->fields()));
  WEFT_ASSIGN_OR_RETURN(SampleOrder order,
                        MakeOrder(options.data, options.batch, options.seed, mix->OrderedSets()));
  auto loader = std::make_unique<ThreadedLoader>(options, std::move(mix), std::move(order));
  WEFT_RETURN_IF_ERROR(loader->Start());
  return std::unique_ptr<Loader>(std::move(loader));
}

StatusOr<std::unique_ptr<EvalSet>> EvalSet::Open(const LoaderOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SampleSource> source,
                        OpenSampleSource(options, SampleUse::kEval));
  WEFT_RETURN_IF_ERROR(CheckFields(options, source->fields()));
  return std::unique_ptr<EvalSet>(std::make_unique<ShardEvalSet>(options, std::move(source)));
}

}  // namespace weft
