#include "cluster/config/data_rules.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace weft {
namespace {

void CheckShards(const std::string& field,
                 const google::protobuf::RepeatedPtrField<std::string>& shards,
                 RecipeChecker* check) {
  for (int i = 0; i < shards.size(); ++i) {
    check->Rule(!shards.Get(i).empty(), field + "[" + std::to_string(i) + "]",
                "must be a path or a pattern as \"train-{000000..000007}.tar\"");
  }
}

void CheckOrder(const Recipe& recipe, RecipeChecker* check) {
  const OrderRecipe& order = recipe.data().order();
  check->Count("data.order.chunk", true, order.chunk(), 1, kMaxCount, "");
  check->Count("data.order.window", true, order.window(), 1, kMaxCount, "");
  check->Rule(order.lanes() >= 0, "data.order.lanes", "must be at least 0; 0 lets Weft choose");
  const auto global = GlobalBatch(recipe.batch());
  if (order.lanes() < 1 || !global) return;
  check->Rule(order.lanes() % recipe.batch().slots() == 0 && *global % order.lanes() == 0,
              "data.order.lanes",
              "must be a multiple of batch.slots = " + std::to_string(recipe.batch().slots()) +
                  " and divide the global batch of " + std::to_string(*global) +
                  "; 0 lets Weft choose");
}

void CheckAugment(const AugmentRecipe& augment, RecipeChecker* check) {
  const std::string at = "data.augment.";
  check->Rule(augment.scale_min() > 0, at + "scale_min", "must be above 0; CLIP has 0.9");
  check->Rule(augment.scale_max() <= 1, at + "scale_max", "must be at most 1 (the whole image)");
  check->Rule(augment.scale_min() <= augment.scale_max(), at + "scale_min",
              "must not exceed data.augment.scale_max");
  check->Rule(augment.ratio_min() > 0, at + "ratio_min", "must be above 0; 3/4 is usual");
  check->Rule(augment.ratio_min() <= augment.ratio_max(), at + "ratio_min",
              "must not exceed data.augment.ratio_max");
  check->Rule(augment.flip_probability() >= 0 && augment.flip_probability() <= 1,
              at + "flip_probability", "must be from 0 to 1");
  check->Rule(augment.jitter_brightness() >= 0, at + "jitter_brightness", "must be at least 0");
  check->Rule(augment.jitter_contrast() >= 0, at + "jitter_contrast", "must be at least 0");
  check->Rule(augment.jitter_saturation() >= 0, at + "jitter_saturation", "must be at least 0");
  check->Rule(augment.min_rows() > 0 && augment.min_rows() <= 1, at + "min_rows",
              "must be above 0 and at most 1, which refuses JPEGs that end early");
  const RandAugmentRecipe& rand_augment = augment.rand_augment();
  check->Count(at + "rand_augment.operations", true, rand_augment.operations(), 0, 16, "");
  check->Count(at + "rand_augment.magnitude", true, rand_augment.magnitude(), 0, 10, "");
  const std::string three = "must have 3 values (red, green, blue) or none, which takes CLIP's";
  check->Rule(augment.mean_size() == 3, at + "mean", three);
  check->Rule(augment.std_size() == 3, at + "std", three);
  for (int i = 0; i < augment.std_size(); ++i) {
    check->Rule(augment.std(i) > 0, at + "std[" + std::to_string(i) + "]", "must be above 0");
  }
}

void CheckMask(const MaskRecipe& mask, RecipeChecker* check) {
  check->Rule(mask.probability() > 0 && mask.probability() <= 1, "data.mask.probability",
              "must be above 0 and at most 1; RoBERTa has 0.15");
  check->Rule(mask.keep() >= 0, "data.mask.keep", "must be at least 0");
  check->Rule(mask.replace() >= 0, "data.mask.replace", "must be at least 0");
  check->Rule(mask.keep() + mask.replace() <= 1, "data.mask.keep",
              "and data.mask.replace must be at most 1 together; the rest becomes <mask>");
}

void CheckSetName(const DataRecipe& data, int i, RecipeChecker* check) {
  const std::string field = "data.sets[" + std::to_string(i) + "].name";
  const std::string& name = data.sets(i).name();
  check->Rule(IsPlainName(name), field,
              "must be at most 100 letters, digits, '.', '_' and '-': it keys the set's shuffles");
  for (int j = 0; j < i; ++j) {
    check->Rule(name.empty() || data.sets(j).name() != name, field,
                "is the name of data.sets[" + std::to_string(j) + "], too");
  }
}

void CheckSets(const DataRecipe& data, RecipeChecker* check) {
  const bool weighted = std::any_of(data.sets().begin(), data.sets().end(),
                                    [](const DataSetRecipe& set) { return set.has_weight(); });
  for (int i = 0; i < data.sets_size(); ++i) {
    const DataSetRecipe& set = data.sets(i);
    const std::string at = "data.sets[" + std::to_string(i) + "].";
    CheckSetName(data, i, check);
    check->Rule(set.shards_size() > 0, at + "shards",
                "must name at least one shard, as \"coco-{000..007}.tar\", or a manifest");
    CheckShards(at + "shards", set.shards(), check);
    check->Rule(set.has_weight() || !weighted, at + "weight",
                "is not set, but other sets have one: give all sets a weight, or none");
    check->Rule(!set.has_weight() || (set.weight() >= 1 && set.weight() <= kMaxCount),
                at + "weight", "must be from 1 to " + std::to_string(kMaxCount));
    check->Rule(!weighted || !set.has_epochs(), at + "epochs",
                "and weights cannot both be set: weights say how often each set is passed");
    check->Rule(!set.has_epochs() || (set.epochs() >= 0.001 && set.epochs() <= 1e6), at + "epochs",
                "must be from 0.001 to 1000000");
    check->Rule(
        set.text_field().empty() || !set.text_extension().empty() || data.text_extension() != "txt",
        at + "text_field", "needs a JSON member: set text_extension: \"json\"");
  }
}

void CheckSegment(const DataRecipe& data, int i, RecipeChecker* check) {
  const MixSegment& segment = data.mix().segments(i);
  const std::string at = "data.mix.segments[" + std::to_string(i) + "].";
  const int64_t before = i == 0 ? 0 : data.mix().segments(i - 1).from_step();
  check->Rule(
      segment.from_step() > before && segment.from_step() <= kMaxCount, at + "from_step",
      "must be above " + std::to_string(before) + ": segments stand in the order of their steps");
  check->Rule(
      segment.weights_size() == data.sets_size(), at + "weights",
      "must have one weight for each of the " + std::to_string(data.sets_size()) + " data.sets");
  int64_t sum = 0;
  for (int j = 0; j < segment.weights_size(); ++j) {
    const int64_t weight = segment.weights(j);
    check->Rule(weight >= 0 && weight <= kMaxCount, at + "weights[" + std::to_string(j) + "]",
                "must be from 0 to " + std::to_string(kMaxCount));
    sum += std::clamp<int64_t>(weight, 0, kMaxCount);
  }
  check->Rule(sum > 0 || segment.weights_size() == 0, at + "weights", "must not all be 0");
}

// With COUNTS: the weights tile the batch, in whole rows of each lane.
void CheckCounts(const std::string& field, const std::vector<int64_t>& counts, const Recipe& recipe,
                 RecipeChecker* check) {
  const auto global = GlobalBatch(recipe.batch());
  const int64_t lanes = recipe.data().order().lanes();
  int64_t sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    sum += counts[i];
    check->Rule(lanes < 1 || counts[i] % lanes == 0, field,
                "must be multiples of data.order.lanes = " + std::to_string(lanes) +
                    ", because data.mix.unit is COUNTS");
  }
  check->Rule(!global || sum == *global, field,
              "must sum to the global batch of " + std::to_string(global.value_or(0)) +
                  ", because data.mix.unit is COUNTS; they sum to " + std::to_string(sum));
}

void CheckMix(const Recipe& recipe, RecipeChecker* check) {
  const DataRecipe& data = recipe.data();
  check->Rule(data.sets_size() > 0 || data.mix().segments_size() == 0, "data.mix.segments",
              "needs data.sets: there is nothing to mix");
  for (int i = 0; i < data.mix().segments_size() && data.sets_size() > 0; ++i)
    CheckSegment(data, i, check);
  if (data.mix().unit() != MixRecipe::COUNTS || data.sets_size() == 0) return;
  check->Rule(data.order().lanes() > 0, "data.order.lanes",
              "must be set, because data.mix.unit is COUNTS: each weight is a multiple of it");
  std::vector<int64_t> counts;
  for (const DataSetRecipe& set : data.sets()) counts.push_back(set.weight());
  CheckCounts("data.sets[0].weight", counts, recipe, check);
  for (int i = 0; i < data.mix().segments_size(); ++i) {
    const auto& weights = data.mix().segments(i).weights();
    CheckCounts("data.mix.segments[" + std::to_string(i) + "].weights",
                {weights.begin(), weights.end()}, recipe, check);
  }
}

void CheckBalance(const BalanceRecipe& balance, RecipeChecker* check) {
  check->Rule(balance.group() >= 0 && balance.group() != 1, "data.balance.group",
              "must be 0, which balances nothing, or at least 2 slots");
  check->Rule(balance.moved() >= 0 && balance.moved() <= 1, "data.balance.moved",
              "must be from 0 to 1; 0.02 is usual");
  check->Rule(balance.attention() >= 0, "data.balance.attention", "must be at least 0");
}

void CheckBatcher(const DataRecipe& data, RecipeChecker* check) {
  // The places of a bucket are kept in memory.
  check->Count("data.batcher.bucket", true, data.batcher().bucket(), 1, 1 << 24, "");
  if (data.batcher().group() == BatcherRecipe::NONE || data.sets_size() == 0) return;
  check->Rule(data.mix().unit() == MixRecipe::SAMPLE, "data.batcher.group",
              "needs data.mix.unit: SAMPLE; with " + MixRecipe::Unit_Name(data.mix().unit()) +
                  " the mix says which samples share a batch, and grouping them by their pictures "
                  "would undo that");
}

void CheckConversation(const ConversationRecipe& conversation, RecipeChecker* check) {
  check->Rule(!conversation.json_extension().empty(), "data.conversation.json_extension",
              "must not be empty");
  check->Count("data.conversation.pack_pictures", true, conversation.pack_pictures(), 0, 1024, "");
  check->Rule(conversation.pack() || conversation.pack_pictures() == 0,
              "data.conversation.pack_pictures", "needs data.conversation.pack: true");
}

void CheckCache(const DataRecipe& data, RecipeChecker* check) {
  check->Rule(!data.has_cache_dir() || !data.cache_dir().empty(), "data.cache_dir",
              "must name a folder on a local disk, or not be set");
  check->Rule(data.cache_bytes() >= int64_t{64} << 20, "data.cache_bytes",
              "must be at least 64 MiB = 67108864; without data.cache_dir there is no cache");
}

}  // namespace

void CheckDataRules(const Recipe& recipe, RecipeChecker* check) {
  const DataRecipe& data = recipe.data();
  check->Rule(data.train_shards_size() > 0 || data.sets_size() > 0, "data.train_shards",
              "name at least one shard, as train_shards: \"data/train-{000000..000007}.tar\"; "
              "`weft data pack` makes them");
  check->Rule(data.train_shards_size() == 0 || data.sets_size() == 0, "data.train_shards",
              "and data.sets cannot both be set: name these shards in a set of their own");
  CheckShards("data.train_shards", data.train_shards(), check);
  CheckShards("data.eval_shards", data.eval_shards(), check);
  check->Rule(data.image_extensions().find_first_not_of(';') != std::string::npos,
              "data.image_extensions", "must name at least one extension, as \"jpg;png\"");
  check->Rule(!data.text_extension().empty(), "data.text_extension", "must not be empty");
  check->Count("data.loader_threads", true, data.loader_threads(), 1, 1024, "");
  check->Count("data.prefetch", true, data.prefetch(), 1, 1 << 16, "");
  CheckConversation(data.conversation(), check);
  CheckCache(data, check);
  CheckMask(data.mask(), check);
  CheckAugment(data.augment(), check);
  CheckOrder(recipe, check);
  CheckSets(data, check);
  CheckMix(recipe, check);
  CheckBalance(data.balance(), check);
  CheckBatcher(data, check);
}

}  // namespace weft
