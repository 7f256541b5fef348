#include "cluster/topology/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cluster/config/recipe.pb.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Recipe RecipeWith(int dp, int slots) {
  Recipe recipe;
  recipe.mutable_layout()->set_dp(dp);
  recipe.mutable_batch()->set_slots(slots);
  return recipe;
}

TEST(MeshTest, RanksAndCoordinatesAreInverse) {
  const Mesh mesh({.pp = 2, .dp = 3, .tp = 4});
  std::set<int> seen;
  for (int pp = 0; pp < 2; ++pp) {
    for (int dp = 0; dp < 3; ++dp) {
      for (int tp = 0; tp < 4; ++tp) {
        const Coordinate c{.pp = pp, .dp = dp, .tp = tp};
        const int rank = mesh.RankOf(c);
        EXPECT_EQ(mesh.CoordinateOf(rank), c);
        seen.insert(rank);
      }
    }
  }
  EXPECT_EQ(seen.size(), 24u);
  EXPECT_EQ(*seen.rbegin(), mesh.world_size() - 1);
}

TEST(MeshTest, TensorNeighboursAreNeighbouringRanks) {
  const Mesh mesh({.pp = 2, .dp = 3, .tp = 4});
  EXPECT_THAT(mesh.Group(Axis::kTensor, 5), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(mesh.Group(Axis::kData, 5), ElementsAre(1, 5, 9));
  EXPECT_THAT(mesh.Group(Axis::kPipeline, 5), ElementsAre(5, 17));
}

TEST(MeshTest, GroupsOfAnAxisPartitionTheWorld) {
  const Mesh mesh({.pp = 3, .dp = 2, .tp = 2});
  for (const Axis axis : {Axis::kPipeline, Axis::kData, Axis::kTensor}) {
    for (int rank = 0; rank < mesh.world_size(); ++rank) {
      const std::vector<int> group = mesh.Group(axis, rank);
      ASSERT_EQ(static_cast<int>(group.size()), mesh.dims().Degree(axis)) << AxisName(axis);
      EXPECT_EQ(group[mesh.CoordinateOf(rank).Index(axis)], rank);
      for (const int member : group) EXPECT_EQ(mesh.Group(axis, member), group);
    }
  }
}

TEST(SlotsTest, EverySlotHasExactlyOneOwnerAndSharesAreEven) {
  for (int slots = 1; slots <= 17; ++slots) {
    for (int dp = 1; dp <= slots; ++dp) {
      int next = 0;
      for (int r = 0; r < dp; ++r) {
        const SlotRange range = SlotsOfRank(slots, dp, r);
        EXPECT_EQ(range.first, next);
        EXPECT_GE(range.count, slots / dp);
        EXPECT_LE(range.count, (slots + dp - 1) / dp);
        for (int s = range.first; s < range.end(); ++s) EXPECT_EQ(RankOfSlot(slots, dp, s), r);
        next = range.end();
      }
      EXPECT_EQ(next, slots);
    }
  }
}

TEST(LayoutTest, DegreesComeFromTheRecipe) {
  Recipe recipe = RecipeWith(3, 8);
  recipe.mutable_layout()->set_tp(2);
  const StatusOr<ParallelDims> dims = MakeParallelDims(recipe);
  ASSERT_TRUE(dims.ok()) << dims.status();
  EXPECT_EQ(*dims, (ParallelDims{.pp = 1, .dp = 3, .tp = 2}));
  EXPECT_EQ(dims->world_size(), 6);
}

TEST(LayoutTest, RefusesMoreRanksThanSlotsAndNamesTheNearestValue) {
  const Status status = CheckLayout(RecipeWith(5, 4));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("layout.dp is 5"));
  EXPECT_THAT(status.message(), HasSubstr("layout.dp <= 4"));
  EXPECT_TRUE(CheckLayout(RecipeWith(4, 4)).ok());
}

TEST(LayoutTest, RefusesDegreesBelowOne) {
  EXPECT_THAT(CheckLayout(RecipeWith(0, 4)).message(), HasSubstr("layout.dp is 0"));
  EXPECT_THAT(CheckLayout(RecipeWith(1, 0)).message(), HasSubstr("batch.slots is 0"));
  Recipe recipe = RecipeWith(1, 1);
  recipe.mutable_layout()->set_pp(-1);
  EXPECT_THAT(CheckLayout(recipe).message(), HasSubstr("layout.pp is -1"));
}

}  // namespace
}  // namespace weft
