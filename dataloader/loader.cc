#include "dataloader/loader.h"

#include <algorithm>
#include <deque>
#include <set>
#include <thread>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/philox.h"
#include "cluster/base/text.h"
#include "dataloader/augment.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/data_set.h"
#include "dataloader/order.h"

namespace weft {
namespace {

// Entries of the window that are tried after a bad one; if they are bad too, the data set is not what the recipe thinks.
constexpr int kMaxSubstitutes = 16;
// The only data set's name: it keys the order and the augmentation.
constexpr char kSetName[] = "train";
constexpr auto kWakeUp = std::chrono::seconds(10);

Status CheckOptions(const LoaderOptions& options) {
  const BatchRecipe& batch = options.batch;
  if (batch.micro_batch_size() < 1)
    return InvalidArgument("batch.micro_batch_size must be at least 1");
  if (batch.slots() < 1) return InvalidArgument("batch.slots must be at least 1");
  if (batch.micro_batches() < 1) return InvalidArgument("batch.micro_batches must be at least 1");
  if (options.first_slot < 0 || options.num_slots < 1 ||
      options.first_slot + options.num_slots > batch.slots()) {
    return InvalidArgument("slots [" + std::to_string(options.first_slot) + ", " +
                           std::to_string(options.first_slot + options.num_slots) +
                           ") are not in batch.slots = " + std::to_string(batch.slots()));
  }
  if (options.image_size < 1) return InvalidArgument("image_size must be at least 1");
  if (options.context_length < 2) return InvalidArgument("context_length must be at least 2");
  if (options.data.vocabulary().empty()) {
    return InvalidArgument(
        "data.vocabulary is not set: name OpenAI's bpe_simple_vocab_16e6.txt.gz or a file made by "
        "`weft data vocab`");
  }
  if (options.data.loader_threads() < 1)
    return InvalidArgument("data.loader_threads must be at least 1");
  if (options.data.prefetch() < 1) return InvalidArgument("data.prefetch must be at least 1");
  return ValidateAugment(options.data.augment());
}

std::vector<std::string> LowerExtensions(const std::string& list) {
  std::vector<std::string> extensions = Split(list, ';');
  for (std::string& extension : extensions) {
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return std::tolower(c); });
  }
  return extensions;
}

// What training and evaluation share.
struct Source {
  LoaderOptions options;
  std::unique_ptr<DataSet> set;
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::vector<std::string> image_extensions;
  std::vector<std::string> text_extensions;

  size_t PixelsPerSample() const {
    return 3 * static_cast<size_t>(options.image_size) * static_cast<size_t>(options.image_size);
  }
  size_t IdsPerSample() const { return static_cast<size_t>(options.context_length); }
};

StatusOr<Source> OpenSource(const LoaderOptions& options, bool eval) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  Source source;
  source.options = options;
  source.image_extensions = LowerExtensions(options.data.image_extensions());
  source.text_extensions = LowerExtensions(options.data.text_extension());
  const auto& patterns = eval ? options.data.eval_shards() : options.data.train_shards();
  WEFT_ASSIGN_OR_RETURN(source.set, DataSet::Open({patterns.begin(), patterns.end()},
                                                  eval ? "data.eval_shards" : "data.train_shards"));
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  source.vocabulary = std::move(*vocabulary);
  return source;
}

MicroBatch MakeMicroBatch(const Source& source, size_t samples) {
  MicroBatch batch;
  batch.sample_ids.resize(samples);
  if (source.options.parts.pixels) batch.pixels.resize(samples * source.PixelsPerSample());
  if (source.options.parts.ids) {
    batch.ids.resize(samples * source.IdsPerSample());
    batch.eot.resize(samples);
  }
  return batch;
}

// A thread's own codecs, caches and buffers.
class SampleCook {
 public:
  explicit SampleCook(const Source& source)
      : source_(source), tokenizer_(*source.vocabulary), planes_(source.PixelsPerSample()) {}

  // Fills row `row` of `batch`. The image is decoded even where nobody asked for pixels: consumers that ask for different
  // parts must agree on which samples are bad.
  Status Cook(int64_t id, const KeyedRandom* random, size_t row, MicroBatch* batch) {
    const LoaderOptions& options = source_.options;
    WEFT_RETURN_IF_ERROR(source_.set->ReadMember(id, source_.image_extensions, &image_));
    WEFT_RETURN_IF_ERROR(source_.set->ReadMember(id, source_.text_extensions, &text_));
    uint8_t* planes =
        options.parts.pixels ? batch->pixels.data() + row * planes_.size() : planes_.data();
    if (random != nullptr) {
      WEFT_RETURN_IF_ERROR(cooker_.CookForTraining(image_, options.data.augment(), *random,
                                                   static_cast<uint64_t>(id), options.image_size,
                                                   planes));
    } else {
      WEFT_RETURN_IF_ERROR(cooker_.CookForEval(image_, options.image_size, planes));
    }
    if (options.parts.ids) {
      int32_t* ids = batch->ids.data() + row * source_.IdsPerSample();
      batch->eot[row] = tokenizer_.EncodeInto(text_, options.context_length, ids);
    }
    batch->sample_ids[row] = id;
    return OkStatus();
  }

 private:
  const Source& source_;
  BpeTokenizer tokenizer_;
  ImageCooker cooker_;
  std::vector<uint8_t> planes_;
  std::string image_;
  std::string text_;
};

// Errors that are properties of the bytes, so that every rank and every restart sees them alike.
bool IsBadSample(const Status& status) {
  return status.code() == StatusCode::kCorruption || status.code() == StatusCode::kInvalidArgument;
}

class ThreadedLoader : public Loader {
 public:
  ThreadedLoader(Source source, SampleOrder order)
      : source_(std::move(source)),
        order_(std::move(order)),
        batch_size_(source_.options.batch.micro_batch_size()),
        micro_batches_(source_.options.batch.micro_batches()),
        total_((source_.options.end_step - source_.options.first_step) * source_.options.num_slots *
               micro_batches_) {
    for (int i = 0; i < source_.options.data.loader_threads(); ++i) {
      threads_.emplace_back([this] { Work(); });
    }
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
    Refill();
    return batch;
  }

  void Recycle(MicroBatch batch) override {
    MutexLock lock(mutex_);
    if (spare_.size() < kMaxSpare) spare_.push_back(std::move(batch));
  }

  const std::string& manifest_hash() const override { return source_.set->manifest_hash(); }
  int64_t num_samples() const override { return source_.set->num_samples(); }

 private:
  static constexpr size_t kMaxSpare = 4;

  // A micro-batch in the making: rows are handed out one by one, so that all threads work on the one that is due first.
  struct Entry {
    MicroBatch batch;
    int64_t next_row = 0;
    int64_t left = 0;
  };

  // Opens micro-batches up to the prefetch horizon and wakes the threads.
  void Refill() WEFT_REQUIRES(mutex_) {
    bool added = false;
    while (static_cast<int64_t>(ring_.size()) < source_.options.data.prefetch() &&
           opened_ < total_) {
      auto entry = std::make_unique<Entry>();
      if (!spare_.empty()) {
        entry->batch = std::move(spare_.back());
        spare_.pop_back();
      } else {
        entry->batch = MakeMicroBatch(source_, static_cast<size_t>(batch_size_));
      }
      const int64_t per_step = source_.options.num_slots * micro_batches_;
      entry->batch.step = source_.options.first_step + opened_ / per_step;
      entry->batch.slot =
          source_.options.first_slot + static_cast<int>(opened_ % per_step / micro_batches_);
      entry->batch.micro_batch = static_cast<int>(opened_ % micro_batches_);
      entry->left = batch_size_;
      ring_.push_back(std::move(entry));
      ++opened_;
      added = true;
    }
    if (added) work_.NotifyAll();
  }

  Entry* EntryWithWork() WEFT_REQUIRES(mutex_) {
    for (const std::unique_ptr<Entry>& entry : ring_) {
      if (entry->next_row < batch_size_) return entry.get();
    }
    return nullptr;
  }

  void Work() {
    SampleCook cook(source_);
    MutexLock lock(mutex_);
    Refill();
    while (!stopping_ && failure_.ok()) {
      Entry* entry = EntryWithWork();
      if (entry == nullptr) {
        work_.WaitUntil(mutex_, Clock::now() + kWakeUp);
        continue;
      }
      const int64_t row = entry->next_row++;
      mutex_.Unlock();
      const Status status = CookRow(&cook, row, &entry->batch);
      mutex_.Lock();
      // The entry stays in the ring until its last row is done.
      if (status.ok()) --entry->left;
      if (!status.ok() && failure_.ok()) failure_ = status;
      if (!status.ok() || entry->left == 0) ready_.NotifyAll();
    }
  }

  // Row `row` of the micro-batch, or what stands in for it.
  Status CookRow(SampleCook* cook, int64_t row, MicroBatch* batch) {
    const int64_t row_in_slot = batch->micro_batch * batch_size_ + row;
    Status last;
    for (int k = 0; k <= kMaxSubstitutes; ++k) {
      const SampleRef ref = order_.At(batch->step, batch->slot, row_in_slot, k);
      const KeyedRandom random(source_.options.seed, std::string("augment:") + kSetName, ref.epoch);
      const auto id = static_cast<int64_t>(ref.id);
      last = cook->Cook(id, &random, static_cast<size_t>(row), batch);
      if (last.ok()) return last;
      last = last.WithContext(source_.set->Describe(id));
      if (!IsBadSample(last)) return last;
      LogBadSample(id, last);
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

  const Source source_;
  const SampleOrder order_;
  const int64_t batch_size_;
  const int64_t micro_batches_;
  // Micro-batches that this loader gives.
  const int64_t total_;

  Mutex mutex_;
  CondVar work_;
  CondVar ready_;
  std::deque<std::unique_ptr<Entry>> ring_ WEFT_GUARDED_BY(mutex_);
  std::vector<MicroBatch> spare_ WEFT_GUARDED_BY(mutex_);
  int64_t opened_ WEFT_GUARDED_BY(mutex_) = 0;
  int64_t consumed_ WEFT_GUARDED_BY(mutex_) = 0;
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  Status failure_ WEFT_GUARDED_BY(mutex_);

  Mutex log_mutex_;
  std::set<int64_t> logged_ WEFT_GUARDED_BY(log_mutex_);

  std::vector<std::thread> threads_;
};

class ShardEvalSet : public EvalSet {
 public:
  explicit ShardEvalSet(Source source) : source_(std::move(source)), cook_(source_) {}

  int64_t size() const override { return source_.set->num_samples(); }

  StatusOr<MicroBatch> Read(int64_t begin, int64_t end) override {
    if (begin < 0 || begin > end || end > size()) {
      return InvalidArgument("evaluation samples [" + std::to_string(begin) + ", " +
                             std::to_string(end) + ") are not in [0, " + std::to_string(size()) +
                             ")");
    }
    MicroBatch batch = MakeMicroBatch(source_, static_cast<size_t>(end - begin));
    for (int64_t id = begin; id < end; ++id) {
      const Status status = cook_.Cook(id, nullptr, static_cast<size_t>(id - begin), &batch);
      if (!status.ok()) return status.WithContext(source_.set->Describe(id));
    }
    return batch;
  }

  StatusOr<EvalSample> Sample(int64_t index) override {
    if (index < 0 || index >= size()) {
      return InvalidArgument("evaluation sample " + std::to_string(index) + " of " +
                             std::to_string(size()));
    }
    EvalSample sample;
    sample.key = std::string(source_.set->key(index));
    Status status = source_.set->ReadMember(index, source_.image_extensions, &sample.image_bytes);
    if (status.ok())
      status = source_.set->ReadMember(index, source_.text_extensions, &sample.caption);
    if (!status.ok()) return status.WithContext(source_.set->Describe(index));
    return sample;
  }

 private:
  const Source source_;
  SampleCook cook_;
};

}  // namespace

StatusOr<std::unique_ptr<Loader>> Loader::Open(const LoaderOptions& options) {
  WEFT_ASSIGN_OR_RETURN(Source source, OpenSource(options, /*eval=*/false));
  const BatchRecipe& batch = options.batch;
  OrderOptions order_options;
  order_options.seed = options.seed;
  order_options.slots = batch.slots();
  order_options.global_batch =
      int64_t{batch.slots()} * batch.micro_batches() * batch.micro_batch_size();
  order_options.lanes = options.data.order().lanes();
  order_options.chunk = options.data.order().chunk();
  order_options.window = options.data.order().window();
  WEFT_ASSIGN_OR_RETURN(SampleOrder order,
                        SampleOrder::Create(order_options, {{kSetName, source.set->ShardSizes()}}));
  return std::unique_ptr<Loader>(
      std::make_unique<ThreadedLoader>(std::move(source), std::move(order)));
}

StatusOr<std::unique_ptr<EvalSet>> EvalSet::Open(const LoaderOptions& options) {
  WEFT_ASSIGN_OR_RETURN(Source source, OpenSource(options, /*eval=*/true));
  return std::unique_ptr<EvalSet>(std::make_unique<ShardEvalSet>(std::move(source)));
}

}  // namespace weft
