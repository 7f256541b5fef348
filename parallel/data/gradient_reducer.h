// The gradient over all slots, summed in the slot tree, group by group: this rank ends with its shard of every group.
//
// Contiguous slots (ZeRO 1): a rank sums its own slots like a binary counter and sends the complete subtrees that it has to
// the owners of the shards in one exchange a step. Interleaved slots (ZeRO 2, 3): each round of D slots is exchanged at once
// and the owners sum shards, so no rank holds a sum of whole gradients. Both give the same bits for every D.
//
// Not deterministic: slots add to one sum, and the backend's own collective sums over ranks.
//
// For each group and own slot: Prepare, then gradients into main_grad, SlotDone, Launch after the last slot of a round;
// Finish at the end of the step. Several passes over all slots in a step (objectives of several waves) add up in their
// order.
// Errors: those of the communicators. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "cluster/base/status.h"
#include "parallel/context.h"
#include "parallel/data/slot_tree.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

class GradientReducer {
 public:
  // Both must outlive it.
  GradientReducer(ParameterStore* store, ParallelContext* context);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Of a step: forgets everything.
  void Begin();
  // Before the first gradient of own slot number `slot` of the pass: main_grad is free and zero afterwards. Does nothing
  // if the slot has begun.
  Status Prepare(int group, int slot);
  // The slot's gradient is complete. REQUIRES: Prepare; once for each slot, ascending.
  void SlotDone(int group, int slot);
  // Once for each round: starts its exchange; contiguous slots have one, number 0, which ends the pass. Every dp rank calls it for the
  // same groups in the same order, also if it has no slot in the round. REQUIRES: SlotDone for the round's own slots.
  Status Launch(int group, int round);
  // Waits for all exchanges; sums over tp and over tied pairs. A collective; the shards are complete afterwards.
  Status Finish();

  // Elements [context.shard() * shard_size, ...) of the group's gradient. REQUIRES: Finish; the group is trained.
  const at::Tensor& shard(size_t group) const { return groups_[group].shard; }
  // Rounds of a pass.
  int num_rounds() const;

 private:
  struct GroupState {
    // Contiguous: whole gradients of own slots. Interleaved: shards of all slots.
    SlotTree tree;
    at::Tensor shard;
    int prepared = -1;
    int done = -1;
    // The exchange under way.
    WorkPtr work;
    int round = -1;
    at::Tensor packed;
    at::Tensor received;
    explicit GroupState(int num_slots) : tree(num_slots) {}
  };

  bool interleaved() const { return context_->slot_order() == SlotOrder::kInterleaved; }
  // What rank `rank` sends in the round: nodes from left to right.
  std::vector<SlotNode> NodesOf(int rank, int round) const;
  void StartExchange(GroupState* state, const ParameterGroup& group);
  void StartReduceScatter(GroupState* state, const ParameterGroup& group);
  // Waits for the group's exchange and takes what came.
  Status Complete(int group);
  void EndPass(GroupState* state, at::Tensor root);
  Status SumOverTensorRanks(int group);
  Status AddTiedGradients();

  ParameterStore* store_;
  ParallelContext* context_;
  std::vector<GroupState> groups_;
};

}  // namespace weft
