// Every recipe that Weft ships loads, is valid, and is what its name says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cluster/config/print_recipe.h"
#include "cluster/config/recipe_hash.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/config/validate.h"

namespace weft {
namespace {

const std::string kRecipes = std::string(WEFT_SOURCE_DIR) + "/recipes/";

Recipe Load(const std::string& name) {
  const auto loaded = LoadRecipe({.path = kRecipes + name});
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? loaded->recipe : Recipe();
}

int64_t GlobalBatch(const Recipe& recipe) {
  return int64_t{recipe.batch().slots()} * recipe.batch().micro_batches() *
         recipe.batch().micro_batch_size();
}

TEST(Recipes, AllLoadAndAreValid) {
  int seen = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kRecipes)) {
    if (entry.path().extension() != ".textproto") continue;
    ++seen;
    const auto loaded = LoadRecipe({.path = entry.path().string()});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_TRUE(ValidateRecipe(*loaded).ok()) << entry.path() << ": " << ValidateRecipe(*loaded);
    const auto again = ParseRecipe(PrintRecipe(*loaded), "printed", {});
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(RecipeHash(loaded->recipe), RecipeHash(again->recipe)) << entry.path();
  }
  EXPECT_GE(seen, 11);
}

// Radford et al. 2021, tables 18 and 20.
TEST(Recipes, ClipOfThePaper) {
  struct Model {
    const char* file;
    int patch, vision_width, vision_layers, vision_heads, text_width, text_heads, embed;
    double lr;
  };
  for (const Model& model :
       {Model{"clip/vit_b32.textproto", 32, 768, 12, 12, 512, 8, 512, 5e-4},
        Model{"clip/vit_b16.textproto", 16, 768, 12, 12, 512, 8, 512, 5e-4},
        Model{"clip/vit_l14.textproto", 14, 1024, 24, 16, 768, 12, 768, 4e-4}}) {
    SCOPED_TRACE(model.file);
    const Recipe recipe = Load(model.file);
    const ClipModel& clip = recipe.model().clip();
    EXPECT_EQ(clip.image_size(), 224);
    EXPECT_EQ(clip.patch_size(), model.patch);
    EXPECT_EQ(clip.vision_width(), model.vision_width);
    EXPECT_EQ(clip.vision_layers(), model.vision_layers);
    EXPECT_EQ(clip.vision_heads(), model.vision_heads);
    EXPECT_EQ(clip.text_width(), model.text_width);
    EXPECT_EQ(clip.text_layers(), 12);
    EXPECT_EQ(clip.text_heads(), model.text_heads);
    EXPECT_EQ(clip.embed_dim(), model.embed);
    EXPECT_EQ(clip.context_length(), 77);
    EXPECT_EQ(clip.vocab_size(), 49408);
    EXPECT_NEAR(clip.logit_scale_init(), 2.6592600369327779, 1e-15);
    EXPECT_NEAR(clip.logit_scale_max(), 4.6051701859880918, 1e-15);
    EXPECT_EQ(GlobalBatch(recipe), 32768);
    EXPECT_EQ(recipe.steps() * GlobalBatch(recipe), 32 * 400'000'000LL);
    EXPECT_EQ(recipe.optimizer().lr(), model.lr);
    EXPECT_EQ(recipe.optimizer().beta1(), 0.9);
    EXPECT_EQ(recipe.optimizer().beta2(), 0.98);
    EXPECT_EQ(recipe.optimizer().eps(), 1e-6);
    EXPECT_EQ(recipe.optimizer().weight_decay(), 0.2);
    EXPECT_EQ(recipe.optimizer().clip_norm(), 0);
    EXPECT_EQ(recipe.schedule().warmup_steps(), 2000);
    EXPECT_EQ(recipe.schedule().final_lr(), 0);
    EXPECT_EQ(recipe.data().augment().flip_probability(), 0);
  }
}

// Liu et al. 2019, table 9.
TEST(Recipes, RobertaOfThePaper) {
  const Recipe recipe = Load("roberta/base.textproto");
  const RobertaModel& model = recipe.model().roberta();
  EXPECT_EQ(model.width(), 768);
  EXPECT_EQ(model.layers(), 12);
  EXPECT_EQ(model.heads(), 12);
  EXPECT_EQ(model.ffn(), 3072);
  EXPECT_EQ(model.max_length(), 512);
  EXPECT_EQ(model.vocab_size(), 50265);
  EXPECT_EQ(model.dropout(), 0.1);
  EXPECT_EQ(model.attention_dropout(), 0.1);
  EXPECT_EQ(GlobalBatch(recipe), 8192);
  EXPECT_EQ(recipe.steps(), 500'000);
  EXPECT_EQ(recipe.optimizer().lr(), 6e-4);
  EXPECT_EQ(recipe.optimizer().beta1(), 0.9);
  EXPECT_EQ(recipe.optimizer().beta2(), 0.98);
  EXPECT_EQ(recipe.optimizer().eps(), 1e-6);
  EXPECT_TRUE(recipe.optimizer().eps_hat());
  EXPECT_EQ(recipe.optimizer().weight_decay(), 0.01);
  EXPECT_EQ(recipe.optimizer().clip_norm(), 0);
  EXPECT_EQ(recipe.schedule().warmup_steps(), 24'000);
  EXPECT_EQ(recipe.schedule().decay(), LINEAR);
  EXPECT_EQ(recipe.schedule().final_lr(), 0);
}

// Liu et al. 2023 (LLaVA-1.5), table 9.
TEST(Recipes, LlavaOfThePaper) {
  for (const int stage : {1, 2}) {
    SCOPED_TRACE(stage);
    const Recipe recipe = Load("llava/stage" + std::to_string(stage) + "_7b.textproto");
    const LlavaModel& model = recipe.model().llava();
    EXPECT_EQ(model.image_size(), 336);
    EXPECT_EQ(model.patch_size(), 14);
    EXPECT_EQ(model.vision_width(), 1024);
    EXPECT_EQ(model.vision_layers(), 24);
    EXPECT_EQ(model.vision_heads(), 16);
    EXPECT_EQ(model.select_layer(), -2);
    EXPECT_EQ(model.projector(), PROJECTOR_MLP2X_GELU);
    EXPECT_EQ(model.width(), 4096);
    EXPECT_EQ(model.layers(), 32);
    EXPECT_EQ(model.heads(), 32);
    EXPECT_EQ(model.ffn(), 11008);
    EXPECT_EQ(model.vocab_size(), 32000);
    EXPECT_EQ(model.max_length(), 2048);
    EXPECT_EQ(model.dropout(), 0);
    EXPECT_EQ(GlobalBatch(recipe), stage == 1 ? 256 : 128);
    EXPECT_EQ(recipe.trainable_size(), stage);
    // group_by_modality_length; the run ends with a bucket.
    const BatcherRecipe& batcher = recipe.data().batcher();
    EXPECT_EQ(batcher.group(), stage == 1 ? BatcherRecipe::NONE : BatcherRecipe::PICTURES);
    EXPECT_EQ(stage == 1 ? 0 : recipe.steps() % (batcher.bucket() / GlobalBatch(recipe)), 0);
    EXPECT_EQ(stage == 1 ? 0 : batcher.bucket() % GlobalBatch(recipe), 0);
    EXPECT_EQ(recipe.data().balance().group() > 0, stage == 2);
    EXPECT_EQ(recipe.optimizer().lr(), stage == 1 ? 1e-3 : 2e-5);
    EXPECT_EQ(recipe.optimizer().beta2(), 0.999);
    EXPECT_EQ(recipe.optimizer().eps(), 1e-8);
    EXPECT_EQ(recipe.optimizer().weight_decay(), 0);
    EXPECT_EQ(recipe.optimizer().clip_norm(), 0);
    // Hugging Face rounds 3 % of the steps up.
    EXPECT_EQ(recipe.schedule().warmup_steps(), (recipe.steps() * 3 + 99) / 100);
    EXPECT_EQ(recipe.schedule().decay(), COSINE);
  }
}

TEST(Recipes, DemoRunsOnTwoRanks) {
  const Recipe recipe = Load("clip/demo.textproto");
  EXPECT_EQ(recipe.layout().dp(), 2);
  EXPECT_TRUE(recipe.deterministic());
  EXPECT_TRUE(recipe.eval().retrieval());
}

}  // namespace
}  // namespace weft
