// Which slots a rank has, and the one binary tree in which everything is summed over slots. Pure integers.
//
// The tree pairs low bits first: leaf 2i with leaf 2i + 1, then those pairs, and so on; a lone child is its own parent
// (promoted). Node (level, index) covers the slots [index << level, (index + 1) << level) that exist. A rank with
// neighbouring slots sums them like a binary counter and is left with the complete subtrees that CompleteSubtrees names.
// Thread rule: pure functions.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "cluster/topology/mesh.h"

namespace weft {

// Which slots a data-parallel rank has. Contiguous: neighbours, which it sums itself (ZeRO 1). Interleaved: slot v lies
// on rank v % D, so that each round of D slots can be exchanged at once (ZeRO 2, 3).
enum class SlotOrder { kContiguous, kInterleaved };

// Ascending.
std::vector<int> OwnSlots(int num_slots, int dp, int dp_rank, SlotOrder order);

struct SlotNode {
  int level = 0;
  int index = 0;
  bool operator==(const SlotNode&) const = default;
};

SlotRange NodeSlots(int num_slots, SlotNode node);
// The parent, skipping none: (level + 1, index / 2).
SlotNode NodeParent(SlotNode node);
// false: the node is a left child without a sibling, so its value is its parent's.
bool HasSibling(int num_slots, SlotNode node);
SlotNode RootNode(int num_slots);

// The largest nodes that lie wholly in `range`, from left to right. One node, the root, if range is everything.
std::vector<SlotNode> CompleteSubtrees(int num_slots, SlotRange range);

// Sum of one value a slot in tree order.
double TreeSum(std::span<const double> values);

}  // namespace weft
