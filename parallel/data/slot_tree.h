// Sums of slots, as they come, in the one binary tree of slots.h. Nodes are pushed from left to right; what can be added is
// added at once, so that at most log2(V) + 1 sums are held.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "parallel/data/slots.h"

namespace weft {

class SlotTree {
 public:
  struct Part {
    SlotNode node;
    at::Tensor sum;
  };
  explicit SlotTree(int num_slots) : num_slots_(num_slots) {}

  // Takes `sum`, which it may add to. REQUIRES: right of all nodes pushed before.
  void Push(SlotNode node, at::Tensor sum);
  // From left to right; one part, the root, if every slot is there.
  const std::vector<Part>& parts() const { return parts_; }
  std::vector<Part>& parts() { return parts_; }
  bool complete() const { return parts_.size() == 1 && parts_[0].node == RootNode(num_slots_); }
  void Clear() { parts_.clear(); }

 private:
  int num_slots_;
  std::vector<Part> parts_;
};

}  // namespace weft
