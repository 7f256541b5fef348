#include "cli/planned_sets.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"
#include "dataloader/data_set.h"
#include "dataloader/sample_source.h"
#include "dataloader/text_packs.h"

namespace weft {
namespace {

uint64_t ChunkId(int64_t shard, int64_t chunk) {
  return static_cast<uint64_t>(shard) << 32 | static_cast<uint64_t>(chunk);
}

class StoredSamples : public PlannedSet {
 public:
  StoredSamples(std::unique_ptr<DataSet> set, int64_t chunk) : set_(std::move(set)), chunk_(chunk) {
    set_->ReadThrough(nullptr, chunk);
  }

  std::vector<uint64_t> ShardSizes() const override { return set_->ShardSizes(); }
  int64_t num_samples() const override { return set_->num_samples(); }
  const DataSet* data_set() const override { return set_.get(); }
  StatusOr<PlannedChunk> ChunkOf(int64_t id, uint64_t* sample_bytes) override {
    const DataSet::Place place = set_->PlaceOf(id);
    *sample_bytes = place.bytes;
    const ChunkRef chunk = set_->ChunkOf(id);
    if (chunk.shard != nullptr)
      return PlannedChunk{ChunkId(place.shard, chunk.chunk), chunk.shard->BytesOf(chunk.chunk)};
    // Inflated, or not in the order of its samples: no cache reads it in chunks.
    const int64_t first = place.index / chunk_ * chunk_;
    return PlannedChunk{ChunkId(place.shard, first),
                        set_->BytesOf(place.shard, first, first + chunk_)};
  }

 private:
  const std::unique_ptr<DataSet> set_;
  const int64_t chunk_;
};

class PackedConversations : public PlannedSet {
 public:
  PackedConversations(ConversationSet conversations, ConversationPacks packs, int64_t chunk)
      : conversations_(std::move(conversations)), packs_(std::move(packs)), chunk_(chunk) {}

  std::vector<uint64_t> ShardSizes() const override { return packs_.ShardSizes(); }
  int64_t num_samples() const override { return packs_.num_packs(); }
  const DataSet* data_set() const override { return conversations_.set.get(); }
  // A chunk of rows is the conversations in them.
  StatusOr<PlannedChunk> ChunkOf(int64_t id, uint64_t* sample_bytes) override {
    const ConversationPacks::View row = packs_.Find(id);
    *sample_bytes = BytesOf(row);
    const int64_t first = row.number / chunk_ * chunk_;
    PlannedChunk chunk = {ChunkId(row.shard, first), 0};
    for (int64_t number = first; number < first + chunk_; ++number) {
      const int64_t other = id - row.number + number;
      if (other >= packs_.num_packs()) break;
      const ConversationPacks::View view = packs_.Find(other);
      if (view.shard == row.shard) chunk.bytes += BytesOf(view);
    }
    return chunk;
  }
  std::string Note() const override {
    char text[160];
    std::snprintf(text, sizeof text,
                  "  rows of %lld conversations, %.1f %% full; %lld conversations are in no row\n",
                  static_cast<long long>(packs_.num_members()), 100 * packs_.fill(),
                  static_cast<long long>(packs_.num_left_out()));
    return text;
  }

 private:
  uint64_t BytesOf(const ConversationPacks::View& row) const {
    uint64_t bytes = 0;
    for (const PackMember& member : row.members)
      bytes += conversations_.set->PlaceOf(row.first_id + member.sample).bytes;
    return bytes;
  }

  const ConversationSet conversations_;
  const ConversationPacks packs_;
  const int64_t chunk_;
};

class TextBlocks : public PlannedSet {
 public:
  explicit TextBlocks(int64_t chunk) : chunk_(chunk) {}

  void Add(std::unique_ptr<TextPacks> shard) {
    first_block_.push_back(first_block_.back() + shard->num_blocks());
    tokens_ += shard->num_tokens();
    shards_.push_back(std::move(shard));
  }

  std::vector<uint64_t> ShardSizes() const override {
    std::vector<uint64_t> sizes;
    for (const auto& shard : shards_) sizes.push_back(static_cast<uint64_t>(shard->num_blocks()));
    return sizes;
  }
  int64_t num_samples() const override { return first_block_.back(); }
  StatusOr<PlannedChunk> ChunkOf(int64_t id, uint64_t* sample_bytes) override {
    const auto after = std::upper_bound(first_block_.begin(), first_block_.end(), id);
    const auto shard = static_cast<size_t>(after - first_block_.begin()) - 1;
    const TextPacks& packs = *shards_[shard];
    const int64_t block = id - first_block_[shard];
    WEFT_ASSIGN_OR_RETURN(*sample_bytes, packs.StoredBytes(block, block + 1));
    const int64_t first = block / chunk_ * chunk_;
    PlannedChunk chunk = {ChunkId(static_cast<int64_t>(shard), first), 0};
    const auto [known, is_new] = bytes_.try_emplace(chunk.id);
    if (is_new) {
      WEFT_ASSIGN_OR_RETURN(known->second,
                            packs.StoredBytes(first, std::min(first + chunk_, packs.num_blocks())));
    }
    chunk.bytes = known->second;
    return chunk;
  }
  std::string Note() const override {
    return "  blocks of " + std::to_string(tokens_) +
           " tokens, read from the pack files that were made of the shards\n";
  }

 private:
  const int64_t chunk_;
  std::vector<std::unique_ptr<TextPacks>> shards_;
  // Of each shard, and of all.
  std::vector<int64_t> first_block_{0};
  int64_t tokens_ = 0;
  // Of chunks that were asked for.
  std::map<uint64_t, uint64_t> bytes_;
};

StatusOr<std::unique_ptr<PlannedSet>> OpenTextBlocks(const LoaderOptions& options) {
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size, BpeStyle::kRoberta);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  const PackOptions pack = {options.context_length, LowerExtensions(options.data.text_extension()),
                            options.data.index_dir()};
  auto blocks = std::make_unique<TextBlocks>(options.data.order().chunk());
  for (const std::string& path : ExpandShardPatterns(ShardPatterns(options, SampleUse::kTrain))) {
    auto shard = TextPacks::Open(path, **vocabulary, pack);
    if (!shard.ok()) return shard.status().WithContext(options.set_field);
    blocks->Add(std::move(*shard));
  }
  return std::unique_ptr<PlannedSet>(std::move(blocks));
}

}  // namespace

StatusOr<std::unique_ptr<PlannedSet>> OpenPlannedSet(const LoaderOptions& options) {
  const int64_t chunk = options.data.order().chunk();
  if (options.family == SampleFamily::kMaskedText) return OpenTextBlocks(options);
  if (options.pictures > 0) {
    WEFT_ASSIGN_OR_RETURN(ConversationSet set, ConversationSet::Open(options, SampleUse::kTrain));
    WEFT_ASSIGN_OR_RETURN(ConversationPacks packs, ConversationPacks::Open(set));
    return std::unique_ptr<PlannedSet>(
        std::make_unique<PackedConversations>(std::move(set), std::move(packs), chunk));
  }
  WEFT_ASSIGN_OR_RETURN(
      std::unique_ptr<DataSet> set,
      DataSet::Open(ShardPatterns(options, SampleUse::kTrain), options.set_field));
  return std::unique_ptr<PlannedSet>(std::make_unique<StoredSamples>(std::move(set), chunk));
}

}  // namespace weft
