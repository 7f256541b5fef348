#include "cluster/config/overrides.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/config/recipe_texts.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::weft::testing::LoadSmall;

std::string Error(const std::string& assignment) {
  LoadedRecipe loaded = LoadSmall();
  const Status status = ApplyOverride(assignment, &loaded);
  if (status.ok()) return "applies";
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  return status.message();
}

TEST(ApplyOverride, SingleValues) {
  const LoadedRecipe loaded =
      LoadSmall({"optimizer.lr=3e-4", "precision=bf16", "seed = 18446744073709551615",
                 "name=other-1", "data.vocabulary=\"a b.txt\"", "deterministic=false",
                 "layout.backend=NCCL", "schedule.warmup_steps=5", "optimizer.lr=2e-4"});
  EXPECT_EQ(loaded.recipe.optimizer().lr(), 2e-4) << "the last one wins";
  EXPECT_EQ(loaded.recipe.precision(), BF16);
  EXPECT_EQ(loaded.recipe.seed(), ~0ULL);
  EXPECT_EQ(loaded.recipe.name(), "other-1");
  EXPECT_EQ(loaded.recipe.data().vocabulary(), "a b.txt");
  EXPECT_FALSE(loaded.recipe.deterministic());
  EXPECT_EQ(loaded.recipe.layout().backend(), NCCL);
  EXPECT_EQ(loaded.recipe.schedule().warmup_steps(), 5);
  for (const char* path : {"optimizer.lr", "precision", "layout.backend", "data.vocabulary"}) {
    EXPECT_EQ(loaded.provenance.at(path), "--set") << path;
  }
}

TEST(ApplyOverride, Lists) {
  const auto shards = [](const std::string& assignment) {
    const LoadedRecipe loaded = LoadSmall({assignment});
    const auto& list = loaded.recipe.data().train_shards();
    return std::vector<std::string>(list.begin(), list.end());
  };
  EXPECT_THAT(shards("data.train_shards=x.tar"), ElementsAre("x.tar"));
  EXPECT_THAT(shards("data.train_shards=[x.tar, \"y.tar\"]"), ElementsAre("x.tar", "y.tar"));
  EXPECT_THAT(shards("data.train_shards=[]"), ElementsAre());
  EXPECT_THAT(shards("data.train_shards[1]=x.tar"), ElementsAre("a.tar", "x.tar", "c-{0..1}.tar"));
  EXPECT_THAT(shards("data.train_shards[3]=x"), ElementsAre("a.tar", "b.tar", "c-{0..1}.tar", "x"));
  const LoadedRecipe loaded =
      LoadSmall({"data.augment.mean=[0.5,0.5,0.5]", "data.train_shards=[x.tar]",
                 "init_from[0].checkpoint=runs/a", "init_from[1].checkpoint=runs/b"});
  EXPECT_THAT(loaded.recipe.data().augment().mean(), ElementsAre(0.5, 0.5, 0.5));
  EXPECT_EQ(loaded.provenance.count("data.train_shards[1]"), 0u);
  ASSERT_EQ(loaded.recipe.init_from_size(), 2);
  EXPECT_EQ(loaded.recipe.init_from(1).checkpoint(), "runs/b");
  EXPECT_EQ(loaded.recipe.init_from(1).parameters(), "*");
  EXPECT_EQ(loaded.provenance.at("init_from[1].checkpoint"), "--set");
}

TEST(ApplyOverride, UnknownNames) {
  EXPECT_EQ(Error("optimizer.lrr=1"),
            "--set optimizer.lrr=1: no such field; did you mean optimizer.lr?");
  EXPECT_EQ(Error("Optimizer.lr=1"),
            "--set Optimizer.lr=1: no such field; did you mean optimizer?");
  EXPECT_EQ(Error("lr=1"), "--set lr=1: no such field here; did you mean optimizer.lr?");
  EXPECT_EQ(Error("precision=b16"),
            "--set precision=b16: b16 is none of FP32, BF16, FP64; did you mean BF16?");
  EXPECT_EQ(Error("precision=int3"), "--set precision=int3: int3 is none of FP32, BF16, FP64");
  EXPECT_THAT(Error("=1"), HasSubstr("no such field"));
  EXPECT_THAT(Error("optimizer.=1"), HasSubstr("no such field"));
}

TEST(ApplyOverride, BadShapes) {
  EXPECT_THAT(Error("optimizer.lr"), HasSubstr("there is no '='"));
  EXPECT_THAT(Error("optimizer=3"), HasSubstr("set one of its fields: lr, beta1"));
  EXPECT_THAT(Error("optimizer.lr.x=3"), HasSubstr("optimizer.lr is a number and has no fields"));
  EXPECT_THAT(Error("precision.x=3"), HasSubstr("precision is a name and has no fields"));
  EXPECT_THAT(Error("optimizer.lr[0]=3"), HasSubstr("optimizer.lr is no list"));
  EXPECT_THAT(Error("data.train_shards[9]=x"), HasSubstr("has 3 elements; the next index is 3"));
  EXPECT_THAT(Error("data.train_shards[-1]=x"), HasSubstr("no name with an index"));
  EXPECT_THAT(Error("data.train_shards[1=x"), HasSubstr("no name with an index"));
  EXPECT_THAT(Error("data.train_shards[]=x"), HasSubstr("no name with an index"));
  EXPECT_THAT(Error("init_from.checkpoint=x"), HasSubstr("write init_from[0]"));
  EXPECT_THAT(Error("init_from[1].checkpoint=x"), HasSubstr("the next index is 0"));
}

TEST(ApplyOverride, BadValues) {
  EXPECT_EQ(Error("steps=1e3"), "--set steps=1e3: steps takes an integer, not \"1e3\"");
  EXPECT_THAT(Error("steps="), HasSubstr("takes an integer, not \"\""));
  EXPECT_THAT(Error("seed=-1"), HasSubstr("takes an integer that is not negative"));
  EXPECT_THAT(Error("layout.dp=99999999999"), HasSubstr("layout.dp takes an integer"));
  EXPECT_THAT(Error("optimizer.lr=fast"), HasSubstr("optimizer.lr takes a number"));
  EXPECT_THAT(Error("deterministic=yes"), HasSubstr("takes true or false"));
  EXPECT_THAT(Error("data.augment.mean=[0.5, x]"), HasSubstr("takes a number, not \"x\""));
}

}  // namespace
}  // namespace weft
