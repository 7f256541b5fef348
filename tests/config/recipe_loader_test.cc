#include "cluster/config/recipe_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/base/file_system.h"
#include "tests/config/recipe_texts.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::weft::testing::LoadSmall;
using ::weft::testing::TempDir;

// The message for a text that must not load.
std::string Error(std::string_view text) {
  const auto loaded = ParseRecipe(text, "r.textproto", {});
  if (loaded.ok()) return "loads";
  EXPECT_EQ(loaded.status().code(), StatusCode::kInvalidArgument);
  return loaded.status().message();
}

TEST(LoadRecipe, FillsDefaultsAndKnowsOrigins) {
  const LoadedRecipe loaded = LoadSmall();
  EXPECT_EQ(loaded.recipe.optimizer().lr(), 1e-3);
  EXPECT_TRUE(loaded.recipe.optimizer().has_beta2());
  EXPECT_EQ(loaded.recipe.optimizer().beta2(), 0.98);
  EXPECT_EQ(loaded.recipe.layout().dp(), 1);
  ASSERT_EQ(loaded.recipe.data().augment().mean_size(), 3);
  EXPECT_EQ(loaded.recipe.data().augment().mean(0), 0.48145466);
  EXPECT_EQ(loaded.recipe.data().augment().std(2), 0.27577711);
  EXPECT_FALSE(loaded.recipe.model().clip().has_vision_heads()) << "has no default";

  EXPECT_EQ(loaded.provenance.at("name"), "small.textproto:1");
  EXPECT_EQ(loaded.provenance.at("model.clip.text_width"), "small.textproto:7");
  EXPECT_EQ(loaded.provenance.at("data.train_shards[1]"), "small.textproto:12");
  EXPECT_EQ(loaded.provenance.at("data.train_shards[2]"), "small.textproto:13");
  EXPECT_EQ(loaded.provenance.at("optimizer.lr"), "small.textproto:17");
  EXPECT_EQ(loaded.provenance.count("optimizer.beta2"), 0u);
}

TEST(LoadRecipe, UnknownFieldsNameTheNearest) {
  EXPECT_EQ(Error("optimizer {\n  weight_dcay: 0.1\n}"),
            "r.textproto:2:3: optimizer.weight_dcay: no such field; did you mean "
            "optimizer.weight_decay?");
  EXPECT_EQ(Error("stepps: 3"), "r.textproto:1:1: stepps: no such field; did you mean steps?");
  EXPECT_EQ(Error("Steps: 3"), "r.textproto:1:1: Steps: no such field; did you mean steps?");
  EXPECT_EQ(Error("name: 'a'\nlr: 3"),
            "r.textproto:2:1: lr: no such field here; did you mean optimizer.lr?");
  EXPECT_EQ(Error("schedule { xyzzy: 1 }"),
            "r.textproto:1:12: schedule.xyzzy: no such field; the fields here are warmup_steps, "
            "final_lr, decay");
  EXPECT_EQ(Error("model { clip {\n  embed_dim: 1\n  image_sizes { } } }"),
            "r.textproto:3:3: model.clip.image_sizes: no such field; did you mean "
            "model.clip.image_size?");
}

TEST(LoadRecipe, BadValuesNameTheField) {
  EXPECT_EQ(Error("layout { dp: 1 }\nprecision: BF61"),
            "r.textproto:2:1: precision: BF61 is none of FP32, BF16, FP64; did you mean BF16?");
  EXPECT_EQ(Error("precision: bf16"),
            "r.textproto:1:1: precision: bf16 is none of FP32, BF16, FP64; did you mean BF16?");
  EXPECT_EQ(Error("steps: many"), "r.textproto:1:8: steps: Expected integer, got: many");
  EXPECT_EQ(Error("optimizer {\n  lr: \"x\" }"),
            "r.textproto:2:7: optimizer.lr: Expected double, got: \"x\"");
  EXPECT_THAT(Error("batch { slots: 99999999999 }"), HasSubstr("1:16: batch.slots: Integer out"));
  EXPECT_THAT(Error("batch { slots: 1.5 }"), HasSubstr("1:16: batch.slots: Expected integer"));
  EXPECT_THAT(Error("seed: -1"), HasSubstr("1:7: seed: Expected integer"));
  EXPECT_THAT(Error("deterministic: maybe"), HasSubstr("deterministic: Invalid value for boolean"));
  EXPECT_THAT(Error("name: 3"), HasSubstr("1:7: name: Expected string"));
  EXPECT_THAT(Error("data {\n  augment { mean: [1, 'x'] }\n}"),
              HasSubstr("2:23: data.augment.mean: Expected double"));
}

TEST(LoadRecipe, BadSyntaxNamesThePlace) {
  EXPECT_THAT(
      Error("steps: 3\nsteps: 4"),
      HasSubstr("r.textproto:2:1: steps: Non-repeated field \"steps\" is specified multiple"));
  EXPECT_EQ(Error("optimizer {\n  lr: 1\n"),
            "r.textproto:3:1: the text ends inside a message; is a '}' missing?");
  EXPECT_THAT(Error("name: 'open"), HasSubstr("r.textproto:1:"));
  EXPECT_THAT(Error("}"), HasSubstr("r.textproto:1:1: "));
  EXPECT_THAT(Error("optimizer: 3"), HasSubstr("optimizer"));
  EXPECT_THAT(Error(std::string("\x1b[31m\0\xff", 7)), ::testing::Not(HasSubstr("\x1b")));
}

TEST(LoadRecipe, RefusesWhatIsNoText) {
  EXPECT_THAT(Error(std::string(2 << 20, ' ')), HasSubstr("at most 1.0 MiB"));
}

TEST(LoadRecipe, ReadsAFile) {
  const TempDir dir;
  ASSERT_TRUE(
      WriteFileDurably(PosixFileSystem(), dir / "demo.textproto", testing::SmallRecipe()).ok());
  const auto loaded = LoadRecipe({.path = dir / "demo.textproto", .overrides = {"steps=20"}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->recipe.steps(), 20);
  EXPECT_EQ(loaded->provenance.at("steps"), "--set");
  EXPECT_EQ(loaded->provenance.at("optimizer.lr"), dir / "demo.textproto:17");
}

TEST(LoadRecipe, MissingFileNamesTheNearest) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(PosixFileSystem(), dir / "demo.textproto", "").ok());
  const auto typo = LoadRecipe({.path = dir / "demp.textproto"});
  EXPECT_EQ(typo.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(typo.status().message(), "no recipe " + dir.path() + "/demp.textproto; did you mean " +
                                         dir.path() + "/demo.textproto?");
  const auto nowhere = LoadRecipe({.path = dir / "gone/x"});
  EXPECT_EQ(nowhere.status().message(), "no recipe " + dir.path() + "/gone/x");
  const auto directory = LoadRecipe({.path = dir.path()});
  EXPECT_EQ(directory.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(directory.status().message(), HasSubstr("Is a directory"));
}

}  // namespace
}  // namespace weft
