#include "parallel/data/slots.h"

#include <gtest/gtest.h>

#include <set>

namespace weft {
namespace {

TEST(SlotsTest, NodesPairLowBitsFirst) {
  EXPECT_EQ(NodeSlots(9, {1, 2}), (SlotRange{4, 2}));
  EXPECT_EQ(NodeSlots(9, {3, 1}), (SlotRange{8, 1}));
  EXPECT_TRUE(HasSibling(9, {0, 1}));
  EXPECT_FALSE(HasSibling(9, {0, 8}));
  EXPECT_EQ(RootNode(9), (SlotNode{4, 0}));
  EXPECT_EQ(RootNode(1), (SlotNode{0, 0}));
}

TEST(SlotsTest, CompleteSubtreesAreTheLargest) {
  EXPECT_EQ(CompleteSubtrees(8, {0, 8}), (std::vector<SlotNode>{{3, 0}}));
  EXPECT_EQ(CompleteSubtrees(9, {3, 3}), (std::vector<SlotNode>{{0, 3}, {1, 2}}));
  // A lone child stands for all its parents.
  EXPECT_EQ(CompleteSubtrees(9, {8, 1}), (std::vector<SlotNode>{{3, 1}}));
  EXPECT_EQ(CompleteSubtrees(1, {0, 1}), (std::vector<SlotNode>{{0, 0}}));
}

TEST(SlotsTest, SubtreesOfAllRanksCoverEverySlotOnce) {
  for (int slots = 1; slots <= 17; ++slots) {
    for (int ranks = 1; ranks <= slots; ++ranks) {
      std::multiset<int> seen;
      for (int rank = 0; rank < ranks; ++rank) {
        for (const SlotNode node : CompleteSubtrees(slots, SlotsOfRank(slots, ranks, rank))) {
          const SlotRange range = NodeSlots(slots, node);
          for (int slot = range.first; slot < range.end(); ++slot) seen.insert(slot);
        }
      }
      EXPECT_EQ(seen.size(), static_cast<size_t>(slots));
      EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), static_cast<size_t>(slots));
    }
  }
}

TEST(SlotsTest, TreeSumAddsPairs) {
  // 1e17 swallows a lone 1, so the order shows: (1 + 1) + (1e17 - 1e17) + 1.
  const double values[] = {1, 1, 1e17, -1e17, 1};
  EXPECT_EQ(TreeSum(values), 3);
  const double other[] = {1, 1e17, -1e17, 1, 1};
  EXPECT_EQ(TreeSum(other), 1);
  EXPECT_EQ(TreeSum({}), 0);
}

}  // namespace
}  // namespace weft
