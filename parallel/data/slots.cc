#include "parallel/data/slots.h"

#include <algorithm>

#include "cluster/base/logging.h"

namespace weft {

std::vector<int> OwnSlots(int num_slots, int dp, int dp_rank, SlotOrder order) {
  std::vector<int> slots;
  if (order == SlotOrder::kInterleaved) {
    for (int slot = dp_rank; slot < num_slots; slot += dp) slots.push_back(slot);
    return slots;
  }
  const SlotRange range = SlotsOfRank(num_slots, dp, dp_rank);
  for (int slot = range.first; slot < range.end(); ++slot) slots.push_back(slot);
  return slots;
}

SlotRange NodeSlots(int num_slots, SlotNode node) {
  const int first = node.index << node.level;
  const int end = std::min(num_slots, (node.index + 1) << node.level);
  return {first, std::max(0, end - first)};
}

SlotNode NodeParent(SlotNode node) { return {node.level + 1, node.index / 2}; }

bool HasSibling(int num_slots, SlotNode node) {
  return node.index % 2 == 1 || ((node.index + 1) << node.level) < num_slots;
}

SlotNode RootNode(int num_slots) {
  SlotNode root;
  while ((1 << root.level) < num_slots) ++root.level;
  return root;
}

std::vector<SlotNode> CompleteSubtrees(int num_slots, SlotRange range) {
  std::vector<SlotNode> nodes;
  for (int slot = range.first; slot < range.end();) {
    // Climb from the leaf while the parent starts here and ends inside.
    SlotNode node{0, slot};
    const SlotNode root = RootNode(num_slots);
    while (node.level < root.level) {
      const SlotRange parent = NodeSlots(num_slots, NodeParent(node));
      if (parent.first != slot || parent.end() > range.end()) break;
      node = NodeParent(node);
    }
    nodes.push_back(node);
    slot = NodeSlots(num_slots, node).end();
  }
  return nodes;
}

double TreeSum(std::span<const double> values) {
  std::vector<double> level(values.begin(), values.end());
  if (level.empty()) return 0;
  while (level.size() > 1) {
    std::vector<double> parents;
    for (size_t i = 0; i < level.size(); i += 2) {
      parents.push_back(i + 1 < level.size() ? level[i] + level[i + 1] : level[i]);
    }
    level = std::move(parents);
  }
  return level[0];
}

}  // namespace weft
