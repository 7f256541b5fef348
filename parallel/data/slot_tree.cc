#include "parallel/data/slot_tree.h"

#include <utility>

#include "cluster/base/logging.h"

namespace weft {

// Climbs from the newest node: a lone child becomes its parent, a right child is added to its left sibling.
void SlotTree::Push(SlotNode node, at::Tensor sum) {
  WEFT_CHECK(parts_.empty() ||
             NodeSlots(num_slots_, parts_.back().node).end() == NodeSlots(num_slots_, node).first)
      << "slots come in order";
  parts_.push_back({node, std::move(sum)});
  while (parts_.back().node.level < RootNode(num_slots_).level) {
    Part& last = parts_.back();
    if (!HasSibling(num_slots_, last.node)) {
      last.node = NodeParent(last.node);
      continue;
    }
    const SlotNode left{last.node.level, last.node.index - 1};
    if (last.node.index % 2 == 0 || parts_.size() < 2 || parts_[parts_.size() - 2].node != left)
      return;
    const Part right = std::move(last);
    parts_.pop_back();
    parts_.back().sum.add_(right.sum);
    parts_.back().node = NodeParent(left);
  }
}

}  // namespace weft
