// A set of samples and what becomes of them: the part of a loader that differs between families.
//
// Errors of a sample that are properties of its bytes (Corruption, InvalidArgument) mean that it is bad for every consumer,
// whatever fields that one reads; all others (I/O) end the run. Thread rule: a source is immutable once open and safe from
// any thread; a cook belongs to one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/loader_options.h"
#include "dataloader/micro_batch.h"
#include "dataloader/order.h"

namespace weft {

enum class SampleUse { kTrain, kEval };

class DataSet;

// A sample as it is stored.
struct EvalSample {
  std::string key;
  std::string caption;
  std::string image_bytes;  // JPEG, PNG or WebP, told by the first bytes
};

// A thread's own codecs, caches and buffers.
class SampleCook {
 public:
  virtual ~SampleCook() = default;
  // Fills row `row` of `batch`, in the fields that it has.
  virtual Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) = 0;
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  // Samples of each shard, in order.
  virtual std::vector<uint64_t> ShardSizes() const = 0;
  virtual int64_t num_samples() const = 0;
  // Identity of the set: goes into every checkpoint.
  virtual const std::string& manifest_hash() const = 0;
  // "shard train-000000.tar, sample 'a/b'".
  virtual std::string Describe(int64_t id) const = 0;
  // About how much work a sample is, told without reading it. Where rows differ for the model: their tokens, from the bytes
  // of their texts. For images and captions, whose rows are alike: KiB to decode.
  virtual StatusOr<int64_t> Length(int64_t id) const = 0;
  // Whether the sample has a picture, told from the index.
  virtual StatusOr<bool> HasPicture(int64_t id) const = 0;
  // Pairs of positions that attention works on, in the units of Length squared: of a packed row less than its square.
  virtual StatusOr<int64_t> AttentionPairs(int64_t id) const {
    WEFT_ASSIGN_OR_RETURN(const int64_t length, Length(id));
    return length * length;
  }
  // All fields of the family.
  virtual const std::vector<FieldSpec>& fields() const = 0;
  virtual std::unique_ptr<SampleCook> NewCook() const = 0;
  virtual StatusOr<EvalSample> ReadRaw(int64_t id) const = 0;
  // The shards that what the samples are made of lies in; nullptr: it lies elsewhere.
  virtual DataSet* data_set() const { return nullptr; }
  // Appends what sample `id` is made of, as ids of data_set().
  virtual void AppendParts(int64_t id, std::vector<int64_t>* parts) const { parts->push_back(id); }
};

// Opens shards and vocabulary. Errors: NotFound, Corruption, InvalidArgument: name the shard or the recipe's field.
StatusOr<std::unique_ptr<SampleSource>> OpenImageTextSource(const LoaderOptions& options,
                                                            SampleUse use);
StatusOr<std::unique_ptr<SampleSource>> OpenMaskedTextSource(const LoaderOptions& options,
                                                             SampleUse use);
StatusOr<std::unique_ptr<SampleSource>> OpenConversationSource(const LoaderOptions& options,
                                                               SampleUse use);
// The one of options.family.
StatusOr<std::unique_ptr<SampleSource>> OpenSampleSource(const LoaderOptions& options,
                                                         SampleUse use);

// What the sources share. Whether an error is a property of a sample's bytes, so that every rank and every restart sees it alike.
bool IsBadSample(const Status& status);
// "jpg;PNG" -> jpg, png.
std::vector<std::string> LowerExtensions(const std::string& list);
// The shards of a use, and the recipe's field that names them.
std::vector<std::string> ShardPatterns(const LoaderOptions& options, SampleUse use);
std::string ShardField(const LoaderOptions& options, SampleUse use);
// Whether a picture's bytes have to be decoded: always for a consumer with pixels, else to learn whether they can be,
// unless that is on the shards' lists. Corruption: it is on them as bad.
StatusOr<bool> MustDecode(const DataSet& set, int64_t id, bool wants_pixels);
// What decoding said, for a picture that the lists call good: an error is then no bad sample but a changed shard.
Status CheckedResult(const DataSet& set, const Status& decoded);
// Whether the consumer reads the field.
bool WantsField(const LoaderOptions& options, std::string_view name);

}  // namespace weft
