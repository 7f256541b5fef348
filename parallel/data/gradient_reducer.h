// Sums the gradients of all slots in the fixed tree of slots.h and leaves each rank its shard of the sum: the same bits for
// every number of ranks. Between the slots of a rank it works like a binary counter (at most log2 of them gradients are
// held); Exchange then sends each owner its part of this rank's complete subtrees, and owners add in tree order.
//
// Errors: those of the communicator. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "cluster/base/status.h"
#include "parallel/context.h"
#include "parallel/data/slots.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

class GradientReducer {
 public:
  GradientReducer(ParameterStore* store, ParallelContext* context);

  // Starts a step: nothing is held, main_grad is zero.
  void Begin();
  // The main_grad buffers hold the gradient of `slot`; they are taken, and zero afterwards (but for the last slot of a
  // rank). REQUIRES: slots come in order.
  void AddSlot(int slot);
  // A collective, once all own slots are in. Afterwards shard(g) is this rank's part of the sum.
  Status Exchange();

  // The sum's shard of group `g`, in the accumulation type; writable (clipping); valid until Begin. Undefined for a group
  // that is not trained.
  const at::Tensor& shard(size_t g) const { return shards_[g]; }

 private:
  // The flat gradients of one complete subtree, one tensor a trained group.
  struct Held {
    SlotNode node;
    std::vector<at::Tensor> grads;
    // `grads` are the main_grad buffers themselves.
    bool is_main = false;
  };
  void Fold();
  std::vector<at::Tensor> TakeBuffers();
  Status ExchangeGroup(size_t g);

  ParameterStore* store_;
  ParallelContext* context_;
  std::vector<Held> held_;
  // Buffers that subtrees no longer need.
  std::vector<std::vector<at::Tensor>> free_;
  std::vector<at::Tensor> shards_;
};

}  // namespace weft
