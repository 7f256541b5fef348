#include "dataloader/packed_conversation_source.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/normalise.h"

namespace weft {
namespace {

// Says once of each conversation that it was left out. Thread-safe.
class LeftOutLog {
 public:
  void Note(const DataSet& set, int64_t id, const Status& why) {
    MutexLock lock(mutex_);
    if (!noted_.insert(id).second) return;
    WEFT_LOG(WARNING) << set.Describe(id) << " is left out of its row: " << why.message();
  }

 private:
  Mutex mutex_;
  std::set<int64_t> noted_ WEFT_GUARDED_BY(mutex_);
};

class PackCook : public SampleCook {
 public:
  PackCook(const ConversationSet& conversations, const ConversationPacks& packs, LeftOutLog* log)
      : conversations_(conversations), packs_(packs), log_(log), reader_(conversations) {}

  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    const ConversationPacks::View pack = packs_.Find(static_cast<int64_t>(ref.id));
    Clear();
    for (const PackMember& member : pack.members) {
      const int64_t id = pack.first_id + member.sample;
      const Status added = Add({ref.set, ref.epoch, static_cast<uint64_t>(id)}, member, row, batch);
      if (!added.ok() && !IsBadSample(added))
        return added.WithContext(conversations_.set->Describe(id));
      if (!added.ok()) log_->Note(*conversations_.set, id, added);
    }
    if (targets_ == 0) {
      return Corruption("none of its " + std::to_string(pack.members.size()) +
                        " conversations can be used");
    }
    Finish(row, batch);
    return OkStatus();
  }

 private:
  void Clear() {
    ids_.clear();
    labels_.clear();
    segment_at_.clear();
    image_at_.clear();
    targets_ = 0;
  }

  // The conversation behind those that are there; nothing, if it is bad.
  Status Add(const SampleRef& ref, const PackMember& member, size_t row, MicroBatch* batch) {
    WEFT_ASSIGN_OR_RETURN(const TokenRow tokens, reader_.ReadRow(ref));
    // A caption that is drawn from several may be shorter than the longest.
    if (tokens.ids.size() > member.tokens) {
      return Unavailable("it has " + std::to_string(tokens.ids.size()) + " tokens, but " +
                         std::to_string(member.tokens) +
                         " when it was packed: remove the shard's .pack file");
    }
    if (tokens.picture_at >= 0) {
      WEFT_RETURN_IF_ERROR(CookPicture(static_cast<int64_t>(ref.id), row, batch));
    }
    const auto begin = static_cast<int32_t>(ids_.size());
    if (tokens.picture_at >= 0) image_at_.push_back(begin + tokens.picture_at);
    ids_.insert(ids_.end(), tokens.ids.begin(), tokens.ids.end());
    labels_.insert(labels_.end(), tokens.labels.begin(), tokens.labels.end());
    segment_at_.resize(ids_.size(), begin);
    targets_ += CountTargets(tokens);
    return OkStatus();
  }

  size_t PictureBytes() const {
    return conversations_.picture_bytes() * FieldTypeBytes(writer_.type());
  }

  // Into the next place.
  Status CookPicture(int64_t id, size_t row, MicroBatch* batch) {
    planes_.resize(conversations_.picture_bytes());
    Field* pixels = batch->Find("pixels");
    WEFT_RETURN_IF_ERROR(reader_.DecodePicture(id, pixels != nullptr, planes_.data()));
    if (pixels != nullptr) WritePicture(pixels->Row(row) + image_at_.size() * PictureBytes());
    return OkStatus();
  }

  void WritePicture(uint8_t* to) { writer_.Write(planes_.data(), planes_.size() / 3, to); }

  // Padding and places without a picture; the fields.
  void Finish(size_t row, MicroBatch* batch) {
    const size_t used = ids_.size();
    const auto length = static_cast<size_t>(conversations_.options.context_length);
    const auto places = static_cast<size_t>(conversations_.options.pictures);
    if (Field* pixels = batch->Find("pixels")) {
      planes_.assign(conversations_.picture_bytes(), 0);
      for (size_t place = image_at_.size(); place < places; ++place)
        WritePicture(pixels->Row(row) + place * PictureBytes());
    }
    ids_.resize(length, conversations_.vocabulary->pad_id());
    labels_.resize(length, kIgnoreLabel);
    segment_at_.resize(length);
    std::iota(segment_at_.begin() + static_cast<std::ptrdiff_t>(used), segment_at_.end(),
              static_cast<int32_t>(used));
    image_at_.resize(places, -1);
    batch->targets[row] = targets_;
    Copy(ids_, "ids", row, batch);
    Copy(labels_, "labels", row, batch);
    Copy(segment_at_, "segment_at", row, batch);
    Copy(image_at_, "image_at", row, batch);
  }

  static void Copy(const std::vector<int32_t>& values, std::string_view name, size_t row,
                   MicroBatch* batch) {
    if (Field* field = batch->Find(name)) std::copy(values.begin(), values.end(), field->I32(row));
  }

  const ConversationSet& conversations_;
  const ConversationPacks& packs_;
  LeftOutLog* const log_;
  ConversationReader reader_;
  PixelWriter writer_{conversations_.options.data.augment()};
  std::vector<uint8_t> planes_;
  // The row so far.
  std::vector<int32_t> ids_;
  std::vector<int32_t> labels_;
  std::vector<int32_t> segment_at_;
  std::vector<int32_t> image_at_;
  int32_t targets_ = 0;
};

class PackedConversationSource : public SampleSource {
 public:
  PackedConversationSource(ConversationSet conversations, ConversationPacks packs)
      : conversations_(std::move(conversations)),
        packs_(std::move(packs)),
        fields_{{"pixels",
                 PixelWriter(conversations_.options.data.augment()).type(),
                 {conversations_.options.pictures, 3, conversations_.options.image_size,
                  conversations_.options.image_size}},
                {"ids", FieldType::kI32, {conversations_.options.context_length}},
                {"labels", FieldType::kI32, {conversations_.options.context_length}},
                {"segment_at", FieldType::kI32, {conversations_.options.context_length}},
                {"image_at", FieldType::kI32, {conversations_.options.pictures}}} {}

  DataSet* data_set() const override { return conversations_.set.get(); }
  void AppendParts(int64_t id, std::vector<int64_t>* parts) const override {
    const ConversationPacks::View pack = packs_.Find(id);
    for (const PackMember& member : pack.members) parts->push_back(pack.first_id + member.sample);
  }
  std::vector<uint64_t> ShardSizes() const override { return packs_.ShardSizes(); }
  int64_t num_samples() const override { return packs_.num_packs(); }
  const std::string& manifest_hash() const override { return packs_.fingerprint(); }
  std::string Describe(int64_t id) const override {
    const ConversationPacks::View pack = packs_.Find(id);
    const int64_t first = pack.first_id + pack.members[0].sample;
    return conversations_.set->Describe(first) + " (row " + std::to_string(pack.number) + ", " +
           std::to_string(pack.members.size()) + " conversations)";
  }
  StatusOr<int64_t> Length(int64_t id) const override { return packs_.Find(id).pack->tokens; }
  StatusOr<int64_t> AttentionPairs(int64_t id) const override {
    return static_cast<int64_t>(packs_.Find(id).pack->squares);
  }
  StatusOr<bool> HasPicture(int64_t id) const override {
    return packs_.Find(id).pack->pictures > 0;
  }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::unique_ptr<SampleCook> NewCook() const override {
    return std::make_unique<PackCook>(conversations_, packs_, &log_);
  }

  // The texts of all members, one a line, and the first picture.
  StatusOr<EvalSample> ReadRaw(int64_t id) const override {
    const DataSet& set = *conversations_.set;
    const ConversationPacks::View pack = packs_.Find(id);
    EvalSample sample;
    sample.key = "row " + std::to_string(id);
    for (const PackMember& member : pack.members) {
      const int64_t at = pack.first_id + member.sample;
      std::string text;
      WEFT_RETURN_IF_ERROR(set.ReadMember(at,
                                          conversations_.HasCaption(at)
                                              ? conversations_.text_extensions
                                              : conversations_.json_extensions,
                                          &text));
      sample.caption += (sample.caption.empty() ? "" : "\n") + text;
      if (sample.image_bytes.empty() && set.Has(at, conversations_.image_extensions)) {
        WEFT_RETURN_IF_ERROR(
            set.ReadMember(at, conversations_.image_extensions, &sample.image_bytes));
      }
    }
    return sample;
  }

 private:
  const ConversationSet conversations_;
  const ConversationPacks packs_;
  const std::vector<FieldSpec> fields_;
  mutable LeftOutLog log_;
};

}  // namespace

StatusOr<std::unique_ptr<SampleSource>> OpenPackedConversationSource(
    ConversationSet conversations) {
  WEFT_ASSIGN_OR_RETURN(ConversationPacks packs, ConversationPacks::Open(conversations));
  if (packs.num_packs() == 0) {
    return InvalidArgument(conversations.options.set_field + ": none of its " +
                           std::to_string(packs.num_left_out()) + " conversations can be used");
  }
  return std::unique_ptr<SampleSource>(
      std::make_unique<PackedConversationSource>(std::move(conversations), std::move(packs)));
}

}  // namespace weft
