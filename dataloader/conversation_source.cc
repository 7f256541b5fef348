// Pictures and conversations about them, for a language model that sees.
#include <algorithm>
#include <utility>

#include "dataloader/conversation_set.h"
#include "dataloader/normalise.h"
#include "dataloader/packed_conversation_source.h"
#include "dataloader/sample_source.h"

namespace weft {
namespace {

// Of English text, about; to tell lengths without reading.
constexpr int64_t kBytesPerToken = 4;

class ConversationCook : public SampleCook {
 public:
  explicit ConversationCook(const ConversationSet& conversations)
      : conversations_(conversations), reader_(conversations) {}

  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    const auto length = static_cast<size_t>(conversations_.options.context_length);
    WEFT_ASSIGN_OR_RETURN(TokenRow tokens, reader_.ReadRow(ref));
    batch->targets[row] = CountTargets(tokens);
    WEFT_RETURN_IF_ERROR(
        CookPicture(static_cast<int64_t>(ref.id), tokens.picture_at >= 0, row, batch));
    const size_t used = tokens.ids.size();
    if (Field* mask = batch->Find("mask")) {
      std::fill_n(mask->U8(row), used, uint8_t{1});
      std::fill_n(mask->U8(row) + used, length - used, uint8_t{0});
    }
    tokens.ids.resize(length, conversations_.vocabulary->pad_id());
    tokens.labels.resize(length, kIgnoreLabel);
    if (Field* ids = batch->Find("ids"))
      std::copy(tokens.ids.begin(), tokens.ids.end(), ids->I32(row));
    if (Field* labels = batch->Find("labels"))
      std::copy(tokens.labels.begin(), tokens.labels.end(), labels->I32(row));
    if (Field* at = batch->Find("image_at")) *at->I32(row) = tokens.picture_at;
    return OkStatus();
  }

 private:
  Status CookPicture(int64_t id, bool wanted, size_t row, MicroBatch* batch) {
    planes_.resize(conversations_.picture_bytes());
    Field* pixels = batch->Find("pixels");
    const bool in_place = pixels != nullptr && writer_.type() == FieldType::kU8;
    uint8_t* planes = in_place ? pixels->U8(row) : planes_.data();
    if (wanted) {
      WEFT_RETURN_IF_ERROR(reader_.DecodePicture(id, pixels != nullptr, planes));
    } else {
      std::fill_n(planes, planes_.size(), uint8_t{0});
    }
    if (pixels != nullptr && !in_place) writer_.Write(planes, planes_.size() / 3, pixels->Row(row));
    return OkStatus();
  }

  const ConversationSet& conversations_;
  ConversationReader reader_;
  PixelWriter writer_{conversations_.options.data.augment()};
  std::vector<uint8_t> planes_;
};

class ConversationSource : public SampleSource {
 public:
  explicit ConversationSource(ConversationSet conversations)
      : conversations_(std::move(conversations)),
        fields_{{"pixels",
                 PixelWriter(conversations_.options.data.augment()).type(),
                 {3, conversations_.options.image_size, conversations_.options.image_size}},
                {"ids", FieldType::kI32, {conversations_.options.context_length}},
                {"labels", FieldType::kI32, {conversations_.options.context_length}},
                {"mask", FieldType::kU8, {conversations_.options.context_length}},
                {"image_at", FieldType::kI32, {}}} {}

  std::vector<uint64_t> ShardSizes() const override { return conversations_.set->ShardSizes(); }
  int64_t num_samples() const override { return conversations_.set->num_samples(); }
  DataSet* data_set() const override { return conversations_.set.get(); }
  const std::string& manifest_hash() const override { return conversations_.set->manifest_hash(); }
  std::string Describe(int64_t id) const override { return conversations_.set->Describe(id); }
  StatusOr<int64_t> Length(int64_t id) const override {
    const DataSet& set = *conversations_.set;
    const bool caption = conversations_.HasCaption(id);
    const int64_t bytes = set.MemberBytes(
        id, caption ? conversations_.text_extensions : conversations_.json_extensions);
    const int64_t picture =
        set.Has(id, conversations_.image_extensions) ? conversations_.options.patches : 0;
    return std::min<int64_t>(picture + bytes / kBytesPerToken,
                             conversations_.options.context_length);
  }
  StatusOr<bool> HasPicture(int64_t id) const override {
    return conversations_.set->Has(id, conversations_.image_extensions);
  }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::unique_ptr<SampleCook> NewCook() const override {
    return std::make_unique<ConversationCook>(conversations_);
  }

  StatusOr<EvalSample> ReadRaw(int64_t id) const override {
    const DataSet& set = *conversations_.set;
    EvalSample sample;
    sample.key = std::string(set.key(id));
    const bool has_text = set.Has(id, conversations_.text_extensions);
    WEFT_RETURN_IF_ERROR(set.ReadMember(
        id, has_text ? conversations_.text_extensions : conversations_.json_extensions,
        &sample.caption));
    if (set.Has(id, conversations_.image_extensions))
      WEFT_RETURN_IF_ERROR(
          set.ReadMember(id, conversations_.image_extensions, &sample.image_bytes));
    return sample;
  }

 private:
  const ConversationSet conversations_;
  const std::vector<FieldSpec> fields_;
};

}  // namespace

StatusOr<std::unique_ptr<SampleSource>> OpenConversationSource(const LoaderOptions& options,
                                                               SampleUse use) {
  WEFT_ASSIGN_OR_RETURN(ConversationSet conversations, ConversationSet::Open(options, use));
  if (options.pictures > 0) return OpenPackedConversationSource(std::move(conversations));
  return std::unique_ptr<SampleSource>(
      std::make_unique<ConversationSource>(std::move(conversations)));
}

}  // namespace weft
