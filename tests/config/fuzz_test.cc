// Recipes and overrides with random damage: the loader answers with a recipe or with a message, and never crashes. What
// it takes goes on through validation, printing and hashing.
#include <gtest/gtest.h>

#include "cluster/base/file_system.h"
#include "cluster/base/philox.h"
#include "cluster/config/print_recipe.h"
#include "cluster/config/recipe_hash.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/config/validate.h"
#include "tests/config/recipe_texts.h"

namespace weft {
namespace {

const char* const kPieces[] = {"{",
                               "}",
                               "[",
                               "]",
                               ":",
                               "\"",
                               "'",
                               "#",
                               "\n",
                               "-",
                               "<",
                               ">",
                               ",",
                               ";",
                               "1e9",
                               "nan",
                               "inf",
                               "name",
                               "data",
                               "clip",
                               "[weft.x]",
                               "\\x",
                               "0x7",
                               "augment",
                               "mean",
                               "layout",
                               "BF16",
                               "\xff",
                               "99999999999999999999",
                               "model",
                               ".",
                               "="};

// A few edits at places that the seed picks: flip, cut, double, insert a token.
std::string Damage(std::string text, uint64_t seed) {
  const KeyedRandom random(seed, "fuzz");
  const uint64_t edits = 1 + random.Below(4, 0, 0);
  for (uint64_t edit = 1; edit <= edits; ++edit) {
    if (text.empty()) return text;
    const size_t at = random.Below(text.size(), edit, 0);
    const size_t length = std::min(text.size() - at, size_t{1} + random.Below(20, edit, 1));
    switch (random.Below(4, edit, 2)) {
      case 0:
        text[at] = static_cast<char>(random.Bits(edit, 3));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      default:
        text.insert(at, kPieces[random.Below(std::size(kPieces), edit, 4)]);
    }
  }
  return text;
}

// What happens to every recipe that loads.
void UseRecipe(const LoadedRecipe& loaded) {
  const std::string printed = PrintRecipe(loaded);
  const auto again = ParseRecipe(printed, "printed", {});
  ASSERT_TRUE(again.ok()) << again.status() << "\n" << printed;
  ASSERT_EQ(RecipeHash(loaded.recipe), RecipeHash(again->recipe)) << printed;
  (void)ValidateRecipe(loaded);
}

TEST(Fuzz, DamagedRecipes) {
  const auto demo =
      PosixFileSystem()->ReadFile(std::string(WEFT_SOURCE_DIR) + "/recipes/clip/demo.textproto");
  ASSERT_TRUE(demo.ok());
  int loads = 0;
  constexpr int kTries = 3000;
  for (int i = 0; i < kTries; ++i) {
    const std::string text = Damage(i % 2 == 0 ? *demo : testing::SmallRecipe(), i);
    const auto loaded = ParseRecipe(text, "fuzz", {});
    if (loaded.ok()) {
      ++loads;
      ASSERT_NO_FATAL_FAILURE(UseRecipe(*loaded));
    } else {
      ASSERT_EQ(loaded.status().code(), StatusCode::kInvalidArgument);
      ASSERT_EQ(loaded.status().message().rfind("fuzz:", 0), 0u) << loaded.status();
    }
  }
  // Both ends are reached.
  EXPECT_GT(loads, kTries / 20);
  EXPECT_LT(loads, kTries);
}

TEST(Fuzz, DamagedOverrides) {
  const std::string good[] = {
      "optimizer.lr=3e-4", "data.train_shards[0]=a.tar",    "data.augment.mean=[0.5, 0.5, 0.5]",
      "precision=bf16",    "init_from[0].checkpoint=\"x\"", "model.clip.text_heads=4"};
  for (int i = 0; i < 3000; ++i) {
    LoadedRecipe loaded;
    const std::string assignment = Damage(good[i % std::size(good)], i);
    const auto result = ParseRecipe(testing::SmallRecipe(), "small", {assignment});
    if (result.ok()) {
      ASSERT_NO_FATAL_FAILURE(UseRecipe(*result)) << assignment;
    } else {
      ASSERT_EQ(result.status().code(), StatusCode::kInvalidArgument);
    }
  }
}

}  // namespace
}  // namespace weft
