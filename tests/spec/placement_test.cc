#include "models/spec/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>

namespace weft {
namespace {

using ::testing::ElementsAre;

// A chain; `trains` by block.
ModelSpec Chain(const std::vector<double>& flops, const std::vector<bool>& trains) {
  ModelSpec model;
  for (size_t i = 0; i < flops.size(); ++i) {
    BlockSpec block;
    block.name = "block" + std::to_string(i);
    block.forward_flops = flops[i];
    block.params = {{.name = block.name + ".weight", .shape = {2}, .trainable = trains[i]}};
    if (i > 0) block.inputs = {{.name = "x" + std::to_string(i - 1), .dims = {2}}};
    block.outputs = {{.name = "x" + std::to_string(i), .dims = {2}}};
    model.blocks.push_back(block);
  }
  return model;
}

ModelSpec Trained(const std::vector<double>& flops) {
  return Chain(flops, std::vector<bool>(flops.size(), true));
}

std::vector<double> StageCosts(const ModelSpec& model, const std::vector<int>& first_blocks) {
  const std::vector<double> costs = BlockCosts(model);
  std::vector<double> stages;
  for (size_t i = 0; i < costs.size(); ++i) {
    const bool starts = std::find(first_blocks.begin(), first_blocks.end(), static_cast<int>(i)) !=
                        first_blocks.end();
    if (starts) stages.push_back(0);
    stages.back() += costs[i];
  }
  return stages;
}

// Every cut: the least (dearest stage, sum of squares).
std::pair<double, double> BruteForce(const ModelSpec& model, int stages) {
  const size_t n = model.blocks.size();
  std::pair<double, double> best{std::numeric_limits<double>::infinity(), 0};
  for (unsigned cuts = 0; cuts < 1U << (n - 1); ++cuts) {
    std::vector<int> first_blocks = {0};
    for (size_t i = 1; i < n; ++i) {
      if (cuts >> (i - 1) & 1U) first_blocks.push_back(static_cast<int>(i));
    }
    if (static_cast<int>(first_blocks.size()) != stages) continue;
    const std::vector<double> costs = StageCosts(model, first_blocks);
    double squares = 0;
    for (const double cost : costs) squares += cost * cost;
    best = std::min(best, {*std::max_element(costs.begin(), costs.end()), squares});
  }
  return best;
}

TEST(PlacementTest, CutsLikeBruteForce) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 60; ++trial) {
    const size_t n = 1 + random() % 11;
    std::vector<double> flops;
    std::vector<bool> trains;
    for (size_t i = 0; i < n; ++i) {
      flops.push_back(random() % 12);
      trains.push_back(random() % 3 > 0);
    }
    const ModelSpec model = Chain(flops, trains);
    for (int stages = 1; stages <= static_cast<int>(n); ++stages) {
      const std::vector<int> cut = CutBlocks(model, stages, BY_COST);
      ASSERT_EQ(cut.size(), static_cast<size_t>(stages));
      ASSERT_EQ(cut[0], 0);
      ASSERT_TRUE(std::is_sorted(cut.begin(), cut.end(), std::less_equal<>())) << trial;
      const std::vector<double> costs = StageCosts(model, cut);
      double squares = 0;
      for (const double cost : costs) squares += cost * cost;
      const auto [dearest, least] = BruteForce(model, stages);
      EXPECT_EQ(*std::max_element(costs.begin(), costs.end()), dearest) << trial << " " << stages;
      EXPECT_NEAR(squares, least, 1e-9 * least) << trial << " " << stages;
    }
  }
}

TEST(PlacementTest, SpreadsEqualBlocks) {
  const ModelSpec model = Trained(std::vector<double>(10, 5.0));
  std::vector<double> by_cost = StageCosts(model, CutBlocks(model, 4, BY_COST));
  std::sort(by_cost.begin(), by_cost.end());
  EXPECT_THAT(by_cost, ElementsAre(30, 30, 45, 45));
  EXPECT_THAT(CutBlocks(model, 4, EVEN), ElementsAre(0, 3, 6, 8));
  EXPECT_THAT(CutBlocks(model, 10, EVEN), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(PlacementTest, AFrozenTowerIsCheap) {
  // Six frozen blocks of 4, then a trained one of 1, then a frozen one of 5 that gradients cross.
  const ModelSpec model =
      Chain({4, 4, 4, 4, 4, 4, 1, 5}, {false, false, false, false, false, false, true, false});
  EXPECT_THAT(BlockCosts(model), ElementsAre(4, 4, 4, 4, 4, 4, 3, 10));
  const std::vector<int> cut = CutBlocks(model, 3, BY_COST);
  EXPECT_THAT(cut, ElementsAre(0, 3, 6));
  EXPECT_EQ(FirstBackwardStage(model, cut), 2);
  EXPECT_EQ(FirstBackwardStage(model, CutBlocks(model, 1, BY_COST)), 0);
  EXPECT_EQ(FirstBackwardStage(Chain({1, 1}, {false, false}), {0, 1}), 1);
}

TEST(PlacementTest, GradientsStopAtWhatIsNotDifferentiable) {
  ModelSpec model = Trained({1, 1});
  model.blocks[1].params[0].trainable = false;
  EXPECT_THAT(BlocksWithBackward(model), ElementsAre(true, true));
  model.blocks[0].outputs[0].differentiable = false;
  EXPECT_THAT(BlocksWithBackward(model), ElementsAre(true, false));
}

TEST(PlacementDeathTest, RefusesMoreStagesThanBlocks) {
  EXPECT_DEATH(CutBlocks(Trained({1, 1}), 3, BY_COST), "3 stages of 2 blocks");
}

}  // namespace
}  // namespace weft
