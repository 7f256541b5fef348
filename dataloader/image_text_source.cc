// Pictures with captions, for contrastive objectives.
#include <utility>

#include "cluster/base/philox.h"
#include "dataloader/augment.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/caption.h"
#include "dataloader/data_set.h"
#include "dataloader/normalise.h"
#include "dataloader/sample_source.h"

namespace weft {
namespace {

struct Pairs {
  LoaderOptions options;
  SampleUse use = SampleUse::kTrain;
  std::unique_ptr<DataSet> set;
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::vector<std::string> image_extensions;
  std::vector<std::string> text_extensions;
  FieldSpec pixels;
  FieldSpec ids;
  FieldSpec eot;
};

class ImageTextCook : public SampleCook {
 public:
  explicit ImageTextCook(const Pairs& pairs)
      : pairs_(pairs), tokenizer_(*pairs.vocabulary), planes_(pairs.pixels.elements_per_row()) {}

  // Consumers that ask for different fields must agree on which samples are bad, hence MustDecode.
  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    const auto id = static_cast<int64_t>(ref.id);
    const DataSet& set = *pairs_.set;
    Field* pixels = batch->Find("pixels");
    WEFT_ASSIGN_OR_RETURN(const bool decode, MustDecode(set, id, pixels != nullptr));
    if (decode || !set.Has(id, pairs_.image_extensions))
      WEFT_RETURN_IF_ERROR(set.ReadMember(id, pairs_.image_extensions, &image_));
    WEFT_RETURN_IF_ERROR(ReadCaption(set, pairs_.options, pairs_.text_extensions, ref, &text_));
    if (decode) {
      const bool in_place = pixels != nullptr && writer_.type() == FieldType::kU8;
      uint8_t* planes = in_place ? pixels->U8(row) : planes_.data();
      WEFT_RETURN_IF_ERROR(CheckedResult(set, CookImage(ref, planes)));
      if (pixels != nullptr && !in_place)
        writer_.Write(planes, planes_.size() / 3, pixels->Row(row));
    }
    Field* ids = batch->Find("ids");
    Field* eot = batch->Find("eot");
    if (ids == nullptr && eot == nullptr) return OkStatus();
    row_ids_.resize(pairs_.ids.elements_per_row());
    int32_t* out = ids == nullptr ? row_ids_.data() : ids->I32(row);
    const int end = tokenizer_.EncodeInto(text_, pairs_.options.context_length, out);
    if (eot != nullptr) *eot->I32(row) = end;
    return OkStatus();
  }

 private:
  Status CookImage(const SampleRef& ref, uint8_t* planes) {
    const LoaderOptions& options = pairs_.options;
    if (pairs_.use == SampleUse::kEval)
      return cooker_.CookForEval(image_, options.image_size, planes);
    const KeyedRandom random(options.seed, augment_purpose_, ref.epoch);
    return cooker_.CookForTraining(image_, options.data.augment(), random, ref.id,
                                   options.image_size, planes);
  }

  const Pairs& pairs_;
  BpeTokenizer tokenizer_;
  ImageCooker cooker_{pairs_.options.data.augment()};
  const std::string augment_purpose_ = "augment:" + pairs_.options.set_name;
  PixelWriter writer_{pairs_.options.data.augment()};
  std::vector<uint8_t> planes_;
  std::vector<int32_t> row_ids_;
  std::string image_;
  std::string text_;
};

class ImageTextSource : public SampleSource {
 public:
  explicit ImageTextSource(Pairs pairs)
      : pairs_(std::move(pairs)), fields_{pairs_.pixels, pairs_.ids, pairs_.eot} {}

  std::vector<uint64_t> ShardSizes() const override { return pairs_.set->ShardSizes(); }
  int64_t num_samples() const override { return pairs_.set->num_samples(); }
  DataSet* data_set() const override { return pairs_.set.get(); }
  const std::string& manifest_hash() const override { return pairs_.set->manifest_hash(); }
  std::string Describe(int64_t id) const override { return pairs_.set->Describe(id); }
  StatusOr<int64_t> Length(int64_t id) const override {
    return (pairs_.set->MemberBytes(id, pairs_.image_extensions) +
            pairs_.set->MemberBytes(id, pairs_.text_extensions) + 1023) /
           1024;
  }
  StatusOr<bool> HasPicture(int64_t id) const override {
    return pairs_.set->Has(id, pairs_.image_extensions);
  }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::unique_ptr<SampleCook> NewCook() const override {
    return std::make_unique<ImageTextCook>(pairs_);
  }

  StatusOr<EvalSample> ReadRaw(int64_t id) const override {
    EvalSample sample;
    sample.key = std::string(pairs_.set->key(id));
    WEFT_RETURN_IF_ERROR(pairs_.set->ReadMember(id, pairs_.image_extensions, &sample.image_bytes));
    WEFT_RETURN_IF_ERROR(pairs_.set->ReadMember(id, pairs_.text_extensions, &sample.caption));
    return sample;
  }

 private:
  const Pairs pairs_;
  const std::vector<FieldSpec> fields_;
};

}  // namespace

StatusOr<std::unique_ptr<SampleSource>> OpenImageTextSource(const LoaderOptions& options,
                                                            SampleUse use) {
  if (options.image_size < 1) return InvalidArgument("image_size must be at least 1");
  if (options.context_length < 2) return InvalidArgument("context_length must be at least 2");
  WEFT_RETURN_IF_ERROR(ValidateAugment(options.data.augment()));
  Pairs pairs;
  pairs.options = options;
  pairs.use = use;
  pairs.image_extensions = LowerExtensions(options.data.image_extensions());
  pairs.text_extensions = LowerExtensions(options.data.text_extension());
  pairs.pixels = {"pixels",
                  PixelWriter(options.data.augment()).type(),
                  {3, options.image_size, options.image_size}};
  pairs.ids = {"ids", FieldType::kI32, {options.context_length}};
  pairs.eot = {"eot", FieldType::kI32, {}};
  WEFT_ASSIGN_OR_RETURN(pairs.set,
                        DataSet::Open(ShardPatterns(options, use), ShardField(options, use)));
  // The lists were made by decoding pictures that are whole.
  if (options.data.augment().min_rows() == 1) pairs.set->UsePictureChecks(pairs.image_extensions);
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  pairs.vocabulary = std::move(*vocabulary);
  return std::unique_ptr<SampleSource>(std::make_unique<ImageTextSource>(std::move(pairs)));
}

}  // namespace weft
