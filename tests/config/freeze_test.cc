#include "cluster/config/freeze.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "cluster/base/hash.h"
#include "cluster/config/recipe_hash.h"
#include "tests/config/recipe_texts.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::LoadSmall;
using ::weft::testing::TempDir;

TEST(FrozenRecipe, ComesBackEqual) {
  const TempDir dir;
  const Recipe recipe = LoadSmall({"optimizer.lr=0.1", "layout.dp=2"}).recipe;
  const std::string path = dir / "recipe.textproto";
  ASSERT_TRUE(WriteFrozenRecipe(PosixFileSystem(), path, recipe).ok());
  const auto back = ReadFrozenRecipe(PosixFileSystem(), path);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(::google::protobuf::util::MessageDifferencer::Equals(recipe, *back));
  EXPECT_EQ(RecipeHash(recipe), RecipeHash(*back));
  EXPECT_EQ(ReadFrozenRecipe(PosixFileSystem(), dir / "gone").status().code(),
            StatusCode::kNotFound);
}

TEST(FrozenRecipe, AnyChangedOrMissingByteIsSeen) {
  const std::string text = FrozenText(LoadSmall().recipe);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    ASSERT_EQ(ParseFrozen(changed, "r").status().code(), StatusCode::kCorruption) << "byte " << i;
    ASSERT_EQ(ParseFrozen(text.substr(0, i), "r").status().code(), StatusCode::kCorruption)
        << "cut at " << i;
  }
  EXPECT_THAT(ParseFrozen(text + " ", "runs/a/recipe.textproto").status().message(),
              HasSubstr("runs/a/recipe.textproto: its checksum does not match"));
}

TEST(FrozenRecipe, FieldsOfALaterVersion) {
  std::string text = FrozenText(LoadSmall().recipe);
  const std::string old_body = text.substr(text.find('\n', text.find("sha256")) + 1);
  const std::string new_body = old_body + "tomorrow: 1\n";
  text.replace(text.find(Sha256Hex(old_body)), 64, Sha256Hex(new_body));
  const auto later = ParseFrozen(text + "tomorrow: 1\n", "r");
  EXPECT_EQ(later.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(later.status().message(), HasSubstr("tomorrow"));
}

}  // namespace
}  // namespace weft
