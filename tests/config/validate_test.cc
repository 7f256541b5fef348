#include "cluster/config/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/base/text.h"
#include "tests/config/recipe_texts.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::weft::testing::LoadSmall;
using ::weft::testing::TempDir;

std::vector<std::string> BadFields(const std::vector<std::string>& overrides) {
  std::vector<std::string> fields;
  for (const Violation& violation : RecipeViolations(LoadSmall(overrides).recipe)) {
    fields.push_back(violation.field);
  }
  return fields;
}

TEST(ValidateRecipe, TakesAGoodRecipe) {
  EXPECT_TRUE(ValidateRecipe(LoadSmall()).ok()) << ValidateRecipe(LoadSmall());
  EXPECT_THAT(BadFields({"layout.dp=2", "optimizer.clip_norm=1", "schedule.warmup_steps=10",
                         "data.order.lanes=4", "model.clip.vision_heads=4"}),
              IsEmpty());
}

struct Case {
  const char* override;
  const char* field;
};

// One violation each, of the field that is named.
class OneRule : public ::testing::TestWithParam<Case> {};

TEST_P(OneRule, IsViolatedAlone) {
  EXPECT_THAT(BadFields({GetParam().override}), ElementsAre(GetParam().field))
      << GetParam().override;
}

INSTANTIATE_TEST_SUITE_P(
    ValidateRecipe, OneRule,
    ::testing::Values(
        Case{"name=a/b", "name"}, Case{"name=..", "name"}, Case{"name=-x", "name"},
        Case{"steps=0", "steps"}, Case{"steps=-5", "steps"},
        Case{"threads_per_rank=0", "threads_per_rank"}, Case{"trainable=[\"\"]", "trainable[0]"},
        Case{"init_from[0].parameters=*", "init_from[0].checkpoint"},
        Case{"model.clip.embed_dim=0", "model.clip.embed_dim"},
        Case{"model.clip.patch_size=7", "model.clip.patch_size"},
        Case{"model.clip.patch_size=0", "model.clip.patch_size"},
        Case{"model.clip.vision_heads=5", "model.clip.vision_width"},
        Case{"model.clip.vision_width=100", "model.clip.vision_width"},
        Case{"model.clip.text_heads=0", "model.clip.text_heads"},
        Case{"model.clip.text_layers=0", "model.clip.text_layers"},
        Case{"model.clip.context_length=2", "model.clip.context_length"},
        Case{"model.clip.vocab_size=513", "model.clip.vocab_size"},
        Case{"model.clip.logit_scale_init=5", "model.clip.logit_scale_init"},
        Case{"batch.slots=0", "batch.slots"}, Case{"batch.micro_batches=0", "batch.micro_batches"},
        Case{"batch.micro_batch_size=0", "batch.micro_batch_size"},

        Case{"data.train_shards=[]", "data.train_shards"},
        Case{"data.train_shards=[\"\"]", "data.train_shards[0]"},
        Case{"data.image_extensions=;", "data.image_extensions"},
        Case{"data.text_extension=", "data.text_extension"},
        Case{"data.loader_threads=0", "data.loader_threads"},
        Case{"data.prefetch=0", "data.prefetch"},
        Case{"data.mask.probability=0", "data.mask.probability"},
        Case{"data.mask.probability=1.5", "data.mask.probability"},
        Case{"data.mask.keep=-0.1", "data.mask.keep"},
        Case{"data.mask.replace=0.95", "data.mask.keep"},
        Case{"data.conversation.json_extension=\"\"", "data.conversation.json_extension"},
        Case{"data.conversation.pack_pictures=2", "data.conversation.pack_pictures"},
        Case{"data.cache_dir=\"\"", "data.cache_dir"},
        Case{"data.cache_bytes=1000", "data.cache_bytes"},
        Case{"data.batcher.bucket=0", "data.batcher.bucket"},
        Case{"data.augment.scale_min=0", "data.augment.scale_min"},
        Case{"data.augment.scale_max=0.5", "data.augment.scale_min"},
        Case{"data.augment.scale_max=1.5", "data.augment.scale_max"},
        Case{"data.augment.ratio_min=2", "data.augment.ratio_min"},
        Case{"data.augment.flip_probability=1.5", "data.augment.flip_probability"},
        Case{"data.augment.mean=[1,2]", "data.augment.mean"},
        Case{"data.augment.std=[1,0,1]", "data.augment.std[1]"},
        Case{"data.augment.jitter_contrast=-1", "data.augment.jitter_contrast"},
        Case{"data.augment.min_rows=0", "data.augment.min_rows"},
        Case{"data.augment.rand_augment.operations=17", "data.augment.rand_augment.operations"},
        Case{"data.augment.rand_augment.magnitude=-1", "data.augment.rand_augment.magnitude"},
        Case{"data.order.chunk=0", "data.order.chunk"},
        Case{"data.balance.group=1", "data.balance.group"},
        Case{"data.balance.moved=1.5", "data.balance.moved"},
        Case{"data.balance.attention=-1", "data.balance.attention"},
        Case{"data.order.lanes=-1", "data.order.lanes"},
        Case{"data.order.lanes=3", "data.order.lanes"}, Case{"optimizer.lr=0", "optimizer.lr"},
        Case{"optimizer.beta1=1", "optimizer.beta1"},
        Case{"optimizer.beta2=-0.1", "optimizer.beta2"}, Case{"optimizer.eps=0", "optimizer.eps"},
        Case{"optimizer.weight_decay=-1", "optimizer.weight_decay"},
        Case{"optimizer.weight_decay=inf", "optimizer.weight_decay"},
        Case{"optimizer.clip_norm=-1", "optimizer.clip_norm"},
        Case{"schedule.warmup_steps=11", "schedule.warmup_steps"},
        Case{"schedule.final_lr=1", "schedule.final_lr"},
        Case{"eval.retrieval=true", "data.eval_shards"},
        Case{"model.clip.dropout=1", "model.clip.dropout"},
        Case{"model.clip.attention_dropout=-0.1", "model.clip.attention_dropout"},
        Case{"eval.top_images=0", "eval.top_images"}, Case{"layout.dp=0", "layout.dp"},
        Case{"layout.tp=0", "layout.tp"}, Case{"layout.pp=-1", "layout.pp"},
        Case{"layout.virtual_stages=0", "layout.virtual_stages"},
        Case{"layout.zero_stage=4", "layout.zero_stage"},
        Case{"layout.shard_ranks=-1", "layout.shard_ranks"},
        Case{"layout.recompute_blocks=[\"\"]", "layout.recompute_blocks[0]"},
        Case{"run.checkpoint_every=-1", "run.checkpoint_every"},
        Case{"run.keep_checkpoints=1", "run.keep_checkpoints"},
        Case{"run.max_fruitless_restarts=0", "run.max_fruitless_restarts"},
        Case{"run.hang_floor_s=0", "run.hang_floor_s"},
        Case{"run.collective_timeout_s=-1", "run.collective_timeout_s"}));

// Two sets with weights and a later segment, into which each case puts one fault.
std::vector<std::string> Mixed(const std::vector<std::string>& changes) {
  std::vector<std::string> overrides = {"data.train_shards=[]",
                                        "data.sets[0].name=a",
                                        "data.sets[0].shards=a.tar",
                                        "data.sets[0].weight=3",
                                        "data.sets[1].name=b",
                                        "data.sets[1].shards=[b.tar, c.tar]",
                                        "data.sets[1].weight=1",
                                        "data.mix.segments[0].from_step=4",
                                        "data.mix.segments[0].weights=[0, 1]"};
  overrides.insert(overrides.end(), changes.begin(), changes.end());
  return overrides;
}

TEST(ValidateRecipe, Mixes) {
  EXPECT_THAT(BadFields(Mixed({})), ElementsAre());
  const std::vector<Case> cases = {
      {"data.train_shards=x.tar", "data.train_shards"},
      {"data.sets[0].name=a/b", "data.sets[0].name"},
      {"data.sets[1].name=a", "data.sets[1].name"},
      {"data.sets[1].shards=[]", "data.sets[1].shards"},
      {"data.sets[0].weight=0", "data.sets[0].weight"},
      {"data.sets[0].epochs=2", "data.sets[0].epochs"},
      {"data.sets[1].text_field=caption", "data.sets[1].text_field"},
      {"data.mix.segments[0].from_step=0", "data.mix.segments[0].from_step"},
      {"data.mix.segments[0].weights=[1]", "data.mix.segments[0].weights"},
      {"data.mix.segments[0].weights=[0, 0]", "data.mix.segments[0].weights"},
      {"data.mix.segments[0].weights=[1, -1]", "data.mix.segments[0].weights[1]"}};
  for (const auto& [change, field] : cases)
    EXPECT_THAT(BadFields(Mixed({change})), ElementsAre(field)) << change;
  EXPECT_THAT(BadFields({"data.mix.segments[0].from_step=4"}), ElementsAre("data.mix.segments"));
}

TEST(ValidateRecipe, MixesOfCounts) {
  const std::vector<std::string> counts = {"data.mix.unit=COUNTS", "data.order.lanes=2",
                                           "data.sets[0].weight=6", "data.sets[1].weight=2",
                                           "data.mix.segments[0].weights=[0, 8]"};
  const auto with = [&](const std::string& change) {
    std::vector<std::string> changes = counts;
    changes.push_back(change);
    return BadFields(Mixed(changes));
  };
  EXPECT_THAT(BadFields(Mixed(counts)), ElementsAre());
  EXPECT_THAT(with("data.order.lanes=0"), ElementsAre("data.order.lanes"));
  EXPECT_THAT(with("data.sets[0].weight=8"), ElementsAre("data.sets[0].weight"));
  EXPECT_THAT(with("data.mix.segments[0].weights=[1, 7]"),
              ElementsAre("data.mix.segments[0].weights", "data.mix.segments[0].weights"));
}

// Grouping moves samples between batches: it cannot keep what these units promise of a batch.
TEST(ValidateRecipe, GroupsOnlyWhatIsMixedBySample) {
  const std::string group = "data.batcher.group=PICTURES";
  EXPECT_THAT(BadFields({group}), ElementsAre());
  EXPECT_THAT(BadFields(Mixed({group})), ElementsAre());
  EXPECT_THAT(BadFields(Mixed({group, "data.mix.unit=BATCH"})), ElementsAre("data.batcher.group"));
  EXPECT_THAT(
      BadFields(Mixed({group, "data.mix.unit=COUNTS", "data.order.lanes=2", "data.sets[0].weight=6",
                       "data.sets[1].weight=2", "data.mix.segments[0].weights=[0, 8]"})),
      ElementsAre("data.batcher.group"));
  EXPECT_THAT(BadFields({"data.batcher.bucket=100000000"}), ElementsAre("data.batcher.bucket"));
}

// Of a family: one violation each, of the field that is named.
std::vector<std::string> BadFieldsOf(const std::string& model, const std::string& override) {
  std::string text = testing::SmallRecipe();
  const size_t begin = text.find("model {");
  text.replace(begin, text.find("batch {") - begin, model);
  const auto loaded = ParseRecipe(text, "small.textproto", {override});
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  std::vector<std::string> fields;
  if (!loaded.ok()) return fields;
  for (const Violation& violation : RecipeViolations(loaded->recipe))
    fields.push_back(violation.field);
  return fields;
}

class RobertaRule : public ::testing::TestWithParam<Case> {};

TEST_P(RobertaRule, IsViolatedAlone) {
  const std::string model = "model { roberta { width: 16 layers: 2 heads: 4 } }\n";
  EXPECT_THAT(BadFieldsOf(model, "seed=2"), IsEmpty());
  EXPECT_THAT(BadFieldsOf(model, "eval.retrieval=true"),
              ElementsAre("eval.retrieval", "data.eval_shards"));
  EXPECT_THAT(BadFieldsOf(model, GetParam().override), ElementsAre(GetParam().field));
}

INSTANTIATE_TEST_SUITE_P(
    ValidateRecipe, RobertaRule,
    ::testing::Values(Case{"model.roberta.width=18", "model.roberta.width"},
                      Case{"model.roberta.layers=0", "model.roberta.layers"},
                      Case{"model.roberta.heads=0", "model.roberta.heads"},
                      Case{"model.roberta.ffn=0", "model.roberta.ffn"},
                      Case{"model.roberta.max_length=2", "model.roberta.max_length"},
                      Case{"model.roberta.vocab_size=260", "model.roberta.vocab_size"},
                      Case{"model.roberta.position_rows=513", "model.roberta.position_rows"},
                      Case{"model.roberta.dropout=1", "model.roberta.dropout"},
                      Case{"model.roberta.attention_dropout=-1",
                           "model.roberta.attention_dropout"}));

class LlavaRule : public ::testing::TestWithParam<Case> {};

TEST_P(LlavaRule, IsViolatedAlone) {
  const std::string model =
      "model { llava { image_size: 28 vision_width: 32 vision_layers: 3 vision_heads: 4 "
      "max_length: 16 width: 32 layers: 2 heads: 4 kv_heads: 2 ffn: 64 } }\n";
  EXPECT_THAT(BadFieldsOf(model, "seed=2"), IsEmpty());
  EXPECT_THAT(BadFieldsOf(model, GetParam().override), ElementsAre(GetParam().field));
}

INSTANTIATE_TEST_SUITE_P(
    ValidateRecipe, LlavaRule,
    ::testing::Values(Case{"model.llava.image_size=30", "model.llava.patch_size"},
                      Case{"model.llava.image_size=56", "model.llava.max_length"},
                      Case{"model.llava.vision_heads=5", "model.llava.vision_width"},
                      Case{"model.llava.vision_ffn=0", "model.llava.vision_ffn"},
                      Case{"model.llava.select_layer=0", "model.llava.select_layer"},
                      Case{"model.llava.select_layer=-4", "model.llava.select_layer"},
                      Case{"model.llava.width=36", "model.llava.heads"},
                      Case{"model.llava.kv_heads=3", "model.llava.kv_heads"},
                      Case{"model.llava.ffn=0", "model.llava.ffn"},
                      Case{"model.llava.vocab_size=258", "model.llava.vocab_size"},
                      Case{"model.llava.norm_eps=0", "model.llava.norm_eps"},
                      Case{"model.llava.rope_theta=1", "model.llava.rope_theta"},
                      Case{"model.llava.dropout=1", "model.llava.dropout"}));

TEST(ValidateRecipe, NotANumberBreaksRules) {
  EXPECT_THAT(BadFields({"optimizer.lr=nan"}), ::testing::Contains("optimizer.lr"));
  EXPECT_THAT(BadFields({"data.augment.scale_min=nan"}),
              ::testing::Contains("data.augment.scale_min"));
}

TEST(ValidateRecipe, HugeBatchesDoNotOverflow) {
  EXPECT_THAT(BadFields({"batch.slots=1048576", "batch.micro_batch_size=1048576"}),
              ElementsAre("batch.micro_batch_size"));
}

TEST(ValidateRecipe, AnEmptyRecipeNamesAllThatIsMissing) {
  const Status status = ValidateRecipe(Recipe());
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* field :
       {"name: is not set", "steps: is not set", "model: choose a family",
        "batch.micro_batch_size: is not set", "data.train_shards: ", "optimizer.lr: is not set"}) {
    EXPECT_THAT(status.message(), HasSubstr(field));
  }
}

TEST(ValidateRecipe, MessagesNameLineFieldValueAndRule) {
  const LoadedRecipe one = LoadSmall({"data.prefetch=0"});
  EXPECT_EQ(ValidateRecipe(one).message(), "--set: data.prefetch = 0: must be from 1 to 65536");
  const LoadedRecipe two = LoadSmall({"steps=0", "model.clip.text_heads=7"});
  const std::string message = ValidateRecipe(two).message();
  EXPECT_THAT(message, HasSubstr("the recipe has 2 problems:\n  --set: steps = 0: must be from 1"));
  EXPECT_THAT(message, HasSubstr("\n  small.textproto:7: model.clip.text_width = 64: must be a "
                                 "multiple of model.clip.text_heads = 7"));
}

TEST(CheckDataFiles, NamesWhatIsMissing) {
  const TempDir dir;
  FileSystem* fs = PosixFileSystem();
  const LoadedRecipe loaded =
      LoadSmall({"data.train_shards=" + dir / "t-{0..1}.tar::" + dir / "t-{2..3}.tar",
                 "data.vocabulary=" + dir / "vocab.txt"});
  const std::string none = CheckDataFiles(loaded, fs).message();
  EXPECT_THAT(none, HasSubstr("--set: data.train_shards[0]"));
  EXPECT_THAT(none, HasSubstr(dir / "t-0.tar is not there (and 3 more of 4)"));
  EXPECT_THAT(none, HasSubstr("weft data pack openclipart"));
  EXPECT_THAT(none, HasSubstr("weft data vocab"));
  EXPECT_THAT(none, HasSubstr("paths are relative to /"));

  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(WriteFileDurably(fs, dir / ("t-" + std::to_string(i) + ".tar"), "tar").ok());
  }
  ASSERT_TRUE(WriteFileDurably(fs, dir / "vocab.txt", "a b\n").ok());
  EXPECT_TRUE(CheckDataFiles(loaded, fs).ok()) << CheckDataFiles(loaded, fs);

  ASSERT_TRUE(WriteFileDurably(fs, dir / "t-2.tar", "").ok());
  EXPECT_THAT(CheckDataFiles(loaded, fs).message(), HasSubstr(dir / "t-2.tar is empty;"));
  ASSERT_TRUE(fs->Remove(dir / "t-2.tar").ok());
  ASSERT_TRUE(fs->MakeDirs(dir / "t-2.tar").ok());
  EXPECT_THAT(CheckDataFiles(loaded, fs).message(), HasSubstr("Is a directory"));
}

TEST(CheckDataFiles, LooksAtEvaluationAndInitOnlyIfTheyAreUsed) {
  const TempDir dir;
  FileSystem* fs = PosixFileSystem();
  ASSERT_TRUE(WriteFileDurably(fs, dir / "x", "x").ok());
  const std::string shards = "data.train_shards=" + dir / "x";
  const std::string vocabulary = "data.vocabulary=" + dir / "x";
  EXPECT_TRUE(CheckDataFiles(LoadSmall({shards, vocabulary, "data.eval_shards=gone"}), fs).ok());
  const auto used = LoadSmall({shards, vocabulary, "data.eval_shards=gone", "eval.retrieval=true",
                               "init_from[0].checkpoint=missing"});
  EXPECT_THAT(CheckDataFiles(used, fs).message(), HasSubstr("data.eval_shards[0]"));
  EXPECT_THAT(CheckDataFiles(used, fs).message(), HasSubstr("init_from[0].checkpoint"));
}

}  // namespace
}  // namespace weft
