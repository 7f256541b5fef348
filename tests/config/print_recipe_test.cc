#include "cluster/config/print_recipe.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "cluster/base/text.h"
#include "cluster/config/recipe_tree.h"
#include "tests/config/recipe_texts.h"

namespace weft {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::weft::testing::LoadSmall;

TEST(PrintRecipe, SaysWhereEachValueComesFrom) {
  const std::string text =
      PrintRecipe(LoadSmall({"seed=7", "data.train_shards[0]=x.tar", "precision=bf16"}));
  EXPECT_THAT(text, ContainsRegex("\nsteps: 10 +# small.textproto:2\n"));
  EXPECT_THAT(text, ContainsRegex("\nseed: 7 +# --set\n"));
  EXPECT_THAT(text, ContainsRegex("\n  lr: 0.001 +# small.textproto:17\n"));
  EXPECT_THAT(text, ContainsRegex("\n  beta2: 0.98 +# default\n"));
  EXPECT_THAT(text, ContainsRegex("\n  train_shards: \"x.tar\" +# --set\n"));
  EXPECT_THAT(text, ContainsRegex("\n  train_shards: \"b.tar\" +# small.textproto:12\n"));
  EXPECT_THAT(text, ContainsRegex("\n    mean: 0.48145466 +# default\n"));
  EXPECT_THAT(text, ContainsRegex("\nprecision: BF16 +# --set\n"));
  // Every line is a brace or a value with its origin.
  for (const std::string& line : Split(text, '\n')) {
    EXPECT_TRUE(line.empty() || line.back() == '{' || line.back() == '}' ||
                line.find("  # ") != std::string::npos)
        << line;
  }
}

TEST(PrintRecipe, ParsesAgainToTheSameRecipe) {
  const LoadedRecipe loaded =
      LoadSmall({"optimizer.lr=0.1", "optimizer.eps=1.2345678901234567e-300",
                 "schedule.final_lr=5e-324", "name=a \"quoted\" \\ # ä", "trainable=[a#b, c]",
                 "init_from[0].checkpoint=x", "data.augment.mean=[0.3333333333333333,1,-0]"});
  for (const std::string& text : {PrintRecipe(loaded), RecipeText(loaded.recipe)}) {
    const auto again = ParseRecipe(text, "again", {});
    ASSERT_TRUE(again.ok()) << again.status() << "\n" << text;
    std::string differences;
    MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&differences);
    EXPECT_TRUE(differencer.Compare(loaded.recipe, again->recipe)) << differences;
  }
}

TEST(WithDefaults, ChangesNothingThatIsSet) {
  const LoadedRecipe loaded = LoadSmall({"optimizer.beta2=0", "data.augment.std=[1,2,3]"});
  EXPECT_EQ(loaded.recipe.optimizer().beta2(), 0);
  EXPECT_EQ(loaded.recipe.data().augment().std(1), 2);
  EXPECT_TRUE(MessageDifferencer::Equals(loaded.recipe, WithDefaults(loaded.recipe)));
  EXPECT_EQ(WithDefaults(Recipe()).model().family_case(), ModelRecipe::FAMILY_NOT_SET);
}

}  // namespace
}  // namespace weft
