// Blocks of text with dynamic masks, for masked language modelling.
#include <algorithm>
#include <utility>

#include "cluster/base/hash.h"
#include "cluster/base/philox.h"
#include "dataloader/data_set.h"
#include "dataloader/sample_source.h"
#include "dataloader/text_packs.h"
#include "dataloader/token_mask.h"

namespace weft {
namespace {

struct Blocks {
  LoaderOptions options;
  SampleUse use = SampleUse::kTrain;
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::vector<std::unique_ptr<TextPacks>> shards;
  // Id of each shard's first block, and the total.
  std::vector<uint64_t> first_block;

  struct Place {
    const TextPacks* shard;
    int64_t block;
  };
  Place Locate(uint64_t id) const {
    const auto after = std::upper_bound(first_block.begin(), first_block.end(), id);
    const auto shard = static_cast<size_t>(after - first_block.begin()) - 1;
    return {shards[shard].get(), static_cast<int64_t>(id - first_block[shard])};
  }
};

class MaskedTextCook : public SampleCook {
 public:
  explicit MaskedTextCook(const Blocks& blocks)
      : blocks_(blocks),
        masker_(blocks.options.data.mask(),
                {blocks.vocabulary->mask_id(), blocks.vocabulary->first_symbol(),
                 blocks.vocabulary->num_symbols()}) {}

  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    const auto [shard, block] = blocks_.Locate(ref.id);
    WEFT_RETURN_IF_ERROR(shard->Read(block, &ids_));
    const size_t length = ids_.size();
    const auto width = static_cast<size_t>(blocks_.options.context_length);
    ids_.resize(width, blocks_.vocabulary->pad_id());
    labels_.assign(width, kIgnoreLabel);
    const bool eval = blocks_.use == SampleUse::kEval;
    const KeyedRandom random(blocks_.options.seed,
                             eval ? "mask:eval" : "mask:" + blocks_.options.set_name, ref.epoch);
    batch->targets[row] = masker_.Mask(random, ref.id, length, ids_.data(), labels_.data());
    if (Field* ids = batch->Find("ids")) std::copy(ids_.begin(), ids_.end(), ids->I32(row));
    if (Field* labels = batch->Find("labels"))
      std::copy(labels_.begin(), labels_.end(), labels->I32(row));
    if (Field* mask = batch->Find("mask")) {
      std::fill_n(mask->U8(row), length, uint8_t{1});
      std::fill_n(mask->U8(row) + length, width - length, uint8_t{0});
    }
    return OkStatus();
  }

 private:
  const Blocks& blocks_;
  TokenMasker masker_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> labels_;
};

class MaskedTextSource : public SampleSource {
 public:
  explicit MaskedTextSource(Blocks blocks)
      : blocks_(std::move(blocks)),
        fields_{{"ids", FieldType::kI32, {blocks_.options.context_length}},
                {"labels", FieldType::kI32, {blocks_.options.context_length}},
                {"mask", FieldType::kU8, {blocks_.options.context_length}}} {
    std::string text = "weft-text-manifest 1\n";
    for (const auto& shard : blocks_.shards) text += shard->fingerprint() + "\n";
    manifest_hash_ = Sha256Hex(text);
  }

  std::vector<uint64_t> ShardSizes() const override {
    std::vector<uint64_t> sizes;
    for (const auto& shard : blocks_.shards)
      sizes.push_back(static_cast<uint64_t>(shard->num_blocks()));
    return sizes;
  }
  int64_t num_samples() const override { return static_cast<int64_t>(blocks_.first_block.back()); }
  const std::string& manifest_hash() const override { return manifest_hash_; }
  std::string Describe(int64_t id) const override {
    const auto [shard, block] = blocks_.Locate(static_cast<uint64_t>(id));
    return "shard " + shard->shard() + ", block " + std::to_string(block);
  }
  StatusOr<int64_t> Length(int64_t id) const override {
    const auto [shard, block] = blocks_.Locate(static_cast<uint64_t>(id));
    return shard->Length(block);
  }
  StatusOr<bool> HasPicture(int64_t) const override { return false; }
  const std::vector<FieldSpec>& fields() const override { return fields_; }
  std::unique_ptr<SampleCook> NewCook() const override {
    return std::make_unique<MaskedTextCook>(blocks_);
  }

  StatusOr<EvalSample> ReadRaw(int64_t id) const override {
    const auto [shard, block] = blocks_.Locate(static_cast<uint64_t>(id));
    std::vector<int32_t> ids;
    WEFT_RETURN_IF_ERROR(shard->Read(block, &ids));
    return EvalSample{Describe(id), blocks_.vocabulary->Decode(ids), ""};
  }

 private:
  const Blocks blocks_;
  const std::vector<FieldSpec> fields_;
  std::string manifest_hash_;
};

}  // namespace

StatusOr<std::unique_ptr<SampleSource>> OpenMaskedTextSource(const LoaderOptions& options,
                                                             SampleUse use) {
  if (options.context_length < 3) return InvalidArgument("context_length must be at least 3");
  if (!options.text_field.empty())
    return InvalidArgument("text_field is for captions: blocks of text take whole members");
  Blocks blocks;
  blocks.options = options;
  blocks.use = use;
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size, BpeStyle::kRoberta);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  blocks.vocabulary = std::move(*vocabulary);
  const PackOptions pack = {options.context_length, LowerExtensions(options.data.text_extension()),
                            options.data.index_dir()};
  blocks.first_block.push_back(0);
  for (const std::string& path : ExpandShardPatterns(ShardPatterns(options, use))) {
    auto shard = TextPacks::Open(path, *blocks.vocabulary, pack);
    if (!shard.ok()) return shard.status().WithContext(ShardField(options, use));
    blocks.first_block.push_back(blocks.first_block.back() +
                                 static_cast<uint64_t>((*shard)->num_blocks()));
    blocks.shards.push_back(std::move(*shard));
  }
  if (blocks.first_block.back() == 0)
    return InvalidArgument(ShardField(options, use) + ": no text in " +
                           std::to_string(blocks.shards.size()) + " shards");
  return std::unique_ptr<SampleSource>(std::make_unique<MaskedTextSource>(std::move(blocks)));
}

}  // namespace weft
