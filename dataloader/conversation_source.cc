// Pictures and conversations about them, for a language model that sees.
#include <algorithm>
#include <array>
#include <utility>

#include "dataloader/augment.h"
#include "dataloader/caption.h"
#include "dataloader/conversation.h"
#include "dataloader/data_set.h"
#include "dataloader/normalise.h"
#include "dataloader/sample_source.h"

namespace weft {
namespace {

// Of English text, about; to tell lengths without reading.
constexpr int64_t kBytesPerToken = 4;

struct Dialogues {
  LoaderOptions options;
  std::unique_ptr<DataSet> set;
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::vector<std::string> image_extensions;
  std::vector<std::string> text_extensions;
  std::vector<std::string> json_extensions;
  // Of the square around a picture; LLaVA's is the mean colour.
  std::array<uint8_t, 3> background = {};

  bool plain() const { return options.data.conversation().version() == ConversationRecipe::PLAIN; }
};

class ConversationCook : public SampleCook {
 public:
  explicit ConversationCook(const Dialogues& dialogues)
      : dialogues_(dialogues), tokenizer_(*dialogues.vocabulary) {}

  // Consumers that ask for different fields must agree on which samples are bad, hence MustDecode.
  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    const auto length = static_cast<size_t>(dialogues_.options.context_length);
    WEFT_ASSIGN_OR_RETURN(TokenRow tokens, MakeRow(ref));
    WEFT_RETURN_IF_ERROR(WidenPicture(dialogues_.options.patches, length, &tokens));
    batch->targets[row] = CountTargets(tokens);
    if (batch->targets[row] == 0)
      return InvalidArgument("nothing to learn within " + std::to_string(length) + " tokens");
    WEFT_RETURN_IF_ERROR(
        CookPicture(static_cast<int64_t>(ref.id), tokens.picture_at >= 0, row, batch));
    const size_t used = tokens.ids.size();
    if (Field* mask = batch->Find("mask")) {
      std::fill_n(mask->U8(row), used, uint8_t{1});
      std::fill_n(mask->U8(row) + used, length - used, uint8_t{0});
    }
    tokens.ids.resize(length, dialogues_.vocabulary->pad_id());
    tokens.labels.resize(length, kIgnoreLabel);
    if (Field* ids = batch->Find("ids"))
      std::copy(tokens.ids.begin(), tokens.ids.end(), ids->I32(row));
    if (Field* labels = batch->Find("labels"))
      std::copy(tokens.labels.begin(), tokens.labels.end(), labels->I32(row));
    if (Field* at = batch->Find("image_at")) *at->I32(row) = tokens.picture_at;
    return OkStatus();
  }

 private:
  StatusOr<TokenRow> MakeRow(const SampleRef& ref) {
    const auto id = static_cast<int64_t>(ref.id);
    const DataSet& set = *dialogues_.set;
    const bool plain = dialogues_.plain();
    if (plain && set.Has(id, dialogues_.text_extensions)) {
      WEFT_RETURN_IF_ERROR(
          ReadCaption(set, dialogues_.options, dialogues_.text_extensions, ref, &text_));
      return PlainRow(text_, &tokenizer_);
    }
    WEFT_RETURN_IF_ERROR(set.ReadMember(id, dialogues_.json_extensions, &text_));
    WEFT_ASSIGN_OR_RETURN(const std::vector<Turn> turns, ParseConversation(text_));
    // The second turn is the first answer: turns alternate and begin with a question.
    if (plain) return PlainRow(turns[1].text, &tokenizer_);
    return V1Row(dialogues_.options.data.conversation().system(), turns, &tokenizer_);
  }

  Status CookPicture(int64_t id, bool wanted, size_t row, MicroBatch* batch) {
    const int size = dialogues_.options.image_size;
    planes_.resize(3 * static_cast<size_t>(size) * static_cast<size_t>(size));
    Field* pixels = batch->Find("pixels");
    const bool in_place = pixels != nullptr && writer_.type() == FieldType::kU8;
    uint8_t* planes = in_place ? pixels->U8(row) : planes_.data();
    if (wanted) {
      WEFT_RETURN_IF_ERROR(DecodePicture(id, pixels != nullptr, planes));
    } else {
      std::fill_n(planes, planes_.size(), uint8_t{0});
    }
    if (pixels != nullptr && !in_place) writer_.Write(planes, planes_.size() / 3, pixels->Row(row));
    return OkStatus();
  }

  Status DecodePicture(int64_t id, bool wants_pixels, uint8_t* planes) {
    const int size = dialogues_.options.image_size;
    const DataSet& set = *dialogues_.set;
    WEFT_ASSIGN_OR_RETURN(const bool decode, MustDecode(set, id, wants_pixels));
    if (!decode && set.Has(id, dialogues_.image_extensions)) return OkStatus();
    WEFT_RETURN_IF_ERROR(set.ReadMember(id, dialogues_.image_extensions, &image_));
    const bool pad = dialogues_.options.data.conversation().fit() == ConversationRecipe::PAD;
    return CheckedResult(set, pad ? cooker_.CookPadded(image_, dialogues_.background, size, planes)
                                  : cooker_.CookForEval(image_, size, planes));
  }

  const Dialogues& dialogues_;
  BpeTokenizer tokenizer_;
  ImageCooker cooker_{dialogues_.options.data.augment()};
  PixelWriter writer_{dialogues_.options.data.augment()};
  std::vector<uint8_t> planes_;
  std::string image_;
  std::string text_;
};

class ConversationSource : public SampleSource {
 public:
  explicit ConversationSource(Dialogues dialogues)
      : dialogues_(std::move(dialogues)),
        fields_{{"pixels",
                 PixelWriter(dialogues_.options.data.augment()).type(),
                 {3, dialogues_.options.image_size, dialogues_.options.image_size}},
                {"ids", FieldType::kI32, {dialogues_.options.context_length}},
                {"labels", FieldType::kI32, {dialogues_.options.context_length}},
                {"mask", FieldType::kU8, {dialogues_.options.context_length}},
                {"image_at", FieldType::kI32, {}}} {}

  std::vector<uint64_t> ShardSizes() const override { return dialogues_.set->ShardSizes(); }
  int64_t num_samples() const override { return dialogues_.set->num_samples(); }
  DataSet* data_set() const override { return dialogues_.set.get(); }
  const std::string& manifest_hash() const override { return dialogues_.set->manifest_hash(); }
  std::string Describe(int64_t id) const override { return dialogues_.set->Describe(id); }
  StatusOr<int64_t> Length(int64_t id) const override {
    const DataSet& set = *dialogues_.set;
    const bool caption = dialogues_.plain() && set.Has(id, dialogues_.text_extensions);
    const int64_t bytes =
        set.MemberBytes(id, caption ? dialogues_.text_extensions : dialogues_.json_extensions);
    const int64_t picture =
        set.Has(id, dialogues_.image_extensions) ? dialogues_.options.patches : 0;
    return std::min<int64_t>(picture + bytes / kBytesPerToken, dialogues_.options.context_length);
  }
  StatusOr<bool> HasPicture(int64_t id) const override {
    return dialogues_.set->Has(id, dialogues_.image_extensions);
  }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::unique_ptr<SampleCook> NewCook() const override {
    return std::make_unique<ConversationCook>(dialogues_);
  }

  StatusOr<EvalSample> ReadRaw(int64_t id) const override {
    const DataSet& set = *dialogues_.set;
    EvalSample sample;
    sample.key = std::string(set.key(id));
    const bool has_text = set.Has(id, dialogues_.text_extensions);
    WEFT_RETURN_IF_ERROR(set.ReadMember(
        id, has_text ? dialogues_.text_extensions : dialogues_.json_extensions, &sample.caption));
    if (set.Has(id, dialogues_.image_extensions))
      WEFT_RETURN_IF_ERROR(set.ReadMember(id, dialogues_.image_extensions, &sample.image_bytes));
    return sample;
  }

 private:
  const Dialogues dialogues_;
  const std::vector<FieldSpec> fields_;
};

// LLaVA's int(mean * 255); CLIP's mean where the recipe has none.
std::array<uint8_t, 3> Background(const AugmentRecipe& augment) {
  constexpr double kClipMean[] = {0.48145466, 0.4578275, 0.40821073};
  std::array<uint8_t, 3> colour = {};
  for (int i = 0; i < 3; ++i) {
    const double mean = augment.mean_size() == 3 ? augment.mean(i) : kClipMean[i];
    colour[static_cast<size_t>(i)] = static_cast<uint8_t>(std::clamp(mean * 255, 0.0, 255.0));
  }
  return colour;
}

}  // namespace

StatusOr<std::unique_ptr<SampleSource>> OpenConversationSource(const LoaderOptions& options,
                                                               SampleUse use) {
  if (options.image_size < 1) return InvalidArgument("image_size must be at least 1");
  if (options.patches < 1) return InvalidArgument("patches must be at least 1");
  if (options.context_length < options.patches + 2) {
    return InvalidArgument("context_length is " + std::to_string(options.context_length) +
                           ": a picture's " + std::to_string(options.patches) +
                           " positions need at least two more");
  }
  Dialogues dialogues;
  dialogues.options = options;
  dialogues.image_extensions = LowerExtensions(options.data.image_extensions());
  dialogues.text_extensions = LowerExtensions(options.data.text_extension());
  dialogues.json_extensions = LowerExtensions(options.data.conversation().json_extension());
  dialogues.background = Background(options.data.augment());
  WEFT_ASSIGN_OR_RETURN(dialogues.set,
                        DataSet::Open(ShardPatterns(options, use), ShardField(options, use)));
  // The lists were made by decoding pictures that are whole.
  if (options.data.augment().min_rows() == 1)
    dialogues.set->UsePictureChecks(dialogues.image_extensions);
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size, BpeStyle::kLlava);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  dialogues.vocabulary = std::move(*vocabulary);
  return std::unique_ptr<SampleSource>(std::make_unique<ConversationSource>(std::move(dialogues)));
}

}  // namespace weft
