#include "cluster/config/recipe_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cluster/base/hash.h"
#include "cluster/config/recipe_tree.h"
#include "tests/config/recipe_texts.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::weft::testing::LoadSmall;

std::string Hash(const std::vector<std::string>& overrides) {
  return RecipeHash(LoadSmall(overrides).recipe);
}

TEST(RecipeHash, LeavesOutWhereAndHowItRuns) {
  const std::string hash = Hash({});
  EXPECT_EQ(hash.size(), 64u);
  for (const char* same :
       {"layout.dp=2", "layout.backend=NCCL", "run.checkpoint_every=7", "data.loader_threads=9",
        "data.prefetch=99", "name=other", "batch.keep_wave=FEATURES", "eval.retrieval=true",
        "data.eval_shards=e.tar"}) {
    EXPECT_EQ(Hash({same}), hash) << same;
  }
}

TEST(RecipeHash, CoversAllElse) {
  std::set<std::string> hashes = {Hash({})};
  const std::vector<std::string> changes = {"seed=2",
                                            "steps=11",
                                            "model.clip.embed_dim=9",
                                            "model.clip.logit_scale_init=2",
                                            "batch.slots=4",
                                            "batch.micro_batches=2",
                                            "data.train_shards[0]=x",
                                            "data.train_shards=[]",
                                            "data.vocabulary=w.txt",
                                            "data.augment.mean[1]=0.5",
                                            "data.order.chunk=64",
                                            "data.sets[0].name=x",
                                            "data.sets[0].weight=2",
                                            "data.mix.unit=BATCH",
                                            "data.balance.group=8",
                                            "optimizer.lr=2e-3",
                                            "optimizer.clip_norm=1",
                                            "schedule.warmup_steps=1",
                                            "precision=BF16",
                                            "threads_per_rank=2",
                                            "deterministic=false",
                                            "init_from[0].checkpoint=x",
                                            "trainable=visual.*"};
  for (const std::string& change : changes) hashes.insert(Hash({change}));
  EXPECT_EQ(hashes.size(), changes.size() + 1);
}

TEST(RecipeHash, DefaultsSetOrNotAreTheSame) {
  const std::string hash = Hash({});
  EXPECT_EQ(Hash({"optimizer.beta1=0.9"}), hash);
  EXPECT_EQ(Hash({"data.augment.mean=[0.48145466, 0.4578275, 0.40821073]"}), hash);
  Recipe bare;
  ASSERT_NE(RecipeHash(bare), hash);
  EXPECT_EQ(RecipeHash(bare), RecipeHash(WithDefaults(bare)));
}

// Checkpoints and journals carry the hash: a change here makes every run of an earlier version impossible to resume.
TEST(RecipeHash, CanonicalTextIsFrozen) {
  EXPECT_EQ(CanonicalText(LoadSmall({"optimizer.eps=1e-7", "precision=bf16"}).recipe),
            "weft recipe 1\n"
            "steps: 10\n"
            "model.clip.embed_dim: 8\n"
            "model.clip.image_size: 32\n"
            "model.clip.patch_size: 8\n"
            "model.clip.vision_width: 64\n"
            "model.clip.vision_layers: 1\n"
            "model.clip.text_width: 64\n"
            "model.clip.text_layers: 1\n"
            "model.clip.text_heads: 2\n"
            "batch.slots: 2\n"
            "batch.micro_batch_size: 4\n"
            "data.train_shards[0]: \"a.tar\"\n"
            "data.train_shards[1]: \"b.tar\"\n"
            "data.train_shards[2]: \"c-{0..1}.tar\"\n"
            "data.vocabulary: \"v.txt\"\n"
            "optimizer.lr: 0.001\n"
            "optimizer.eps: 1e-07\n"
            "precision: BF16\n");
  EXPECT_EQ(RecipeHash(Recipe()), Sha256Hex("weft recipe 1\n"));
}

TEST(DiffRecipes, NamesFieldsAndBothValues) {
  const Recipe a = LoadSmall({"layout.dp=2"}).recipe;
  const Recipe b =
      LoadSmall({"optimizer.lr=3e-4", "data.train_shards=a.tar", "precision=bf16"}).recipe;
  EXPECT_THAT(DiffRecipes(a, a), ElementsAre());
  EXPECT_THAT(DiffRecipes(a, b),
              ElementsAre("data.train_shards[1]: \"b.tar\" -> (unset)",
                          "data.train_shards[2]: \"c-{0..1}.tar\" -> (unset)",
                          "optimizer.lr: 0.001 -> 0.0003", "precision: FP32 -> BF16"));
  EXPECT_THAT(DiffRecipes(a, LoadSmall().recipe), ElementsAre());
  EXPECT_THAT(DiffRecipes(a, LoadSmall().recipe, DiffScope::kAll),
              ElementsAre("layout.dp: 2 -> 1"));
}

}  // namespace
}  // namespace weft
