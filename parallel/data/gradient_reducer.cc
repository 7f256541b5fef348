#include "parallel/data/gradient_reducer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// A subtree of some rank and its part for the shard that is being summed.
struct Part {
  SlotNode node;
  at::Tensor values;
};

// Value of `node` from the parts below it; adds in place into the leftmost part.
at::Tensor Combine(int num_slots, SlotNode node, const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    if (part.node == node) return part.values;
  }
  WEFT_CHECK_GT(node.level, 0) << "slot " << node.index << " is in no rank's part";
  const SlotNode left{node.level - 1, node.index * 2};
  at::Tensor sum = Combine(num_slots, left, parts);
  if (HasSibling(num_slots, left))
    sum.add_(Combine(num_slots, {left.level, left.index + 1}, parts));
  return sum;
}

}  // namespace

GradientReducer::GradientReducer(ParameterStore* store, ParallelContext* context)
    : store_(store), context_(context), shards_(store->groups().size()) {}

void GradientReducer::Begin() {
  for (Held& held : held_) {
    if (!held.is_main) free_.push_back(std::move(held.grads));
  }
  held_.clear();
  for (at::Tensor& shard : shards_) shard.reset();
  store_->ZeroMainGrads();
}

std::vector<at::Tensor> GradientReducer::TakeBuffers() {
  if (!free_.empty()) {
    std::vector<at::Tensor> buffers = std::move(free_.back());
    free_.pop_back();
    return buffers;
  }
  std::vector<at::Tensor> buffers;
  for (const ParameterGroup& group : store_->groups()) {
    buffers.push_back(group.trainable ? at::empty_like(group.main_grad) : at::Tensor());
  }
  return buffers;
}

void GradientReducer::AddSlot(int slot) {
  const std::vector<int>& own = context_->slots();
  WEFT_CHECK(slot >= own.front() && slot <= own.back()) << "slot " << slot << " is another rank's";
  Held held;
  held.node = {0, slot};
  held.is_main = true;
  for (const ParameterGroup& group : store_->groups()) held.grads.push_back(group.main_grad);
  held_.push_back(std::move(held));
  Fold();
  if (slot == own.back()) return;
  // The next slot needs the main buffers: what is left there moves out.
  if (held_.back().is_main) {
    std::vector<at::Tensor> buffers = TakeBuffers();
    for (size_t g = 0; g < buffers.size(); ++g) {
      if (buffers[g].defined()) buffers[g].copy_(held_.back().grads[g]);
    }
    held_.back().grads = std::move(buffers);
    held_.back().is_main = false;
  }
  store_->ZeroMainGrads();
}

// Climbs from the newest subtree: a lone child becomes its parent, a right child is added to its left sibling.
void GradientReducer::Fold() {
  const int num_slots = context_->num_slots();
  while (held_.back().node.level < RootNode(num_slots).level) {
    Held& last = held_.back();
    if (!HasSibling(num_slots, last.node)) {
      last.node = NodeParent(last.node);
      continue;
    }
    const SlotNode left{last.node.level, last.node.index - 1};
    if (last.node.index % 2 == 0 || held_.size() < 2 || held_[held_.size() - 2].node != left)
      return;
    Held right = std::move(held_.back());
    held_.pop_back();
    for (size_t g = 0; g < right.grads.size(); ++g) {
      if (right.grads[g].defined()) held_.back().grads[g].add_(right.grads[g]);
    }
    if (!right.is_main) free_.push_back(std::move(right.grads));
    held_.back().node = NodeParent(left);
  }
}

Status GradientReducer::Exchange() {
  for (size_t g = 0; g < store_->groups().size(); ++g) {
    if (!store_->groups()[g].trainable) continue;
    if (context_->dp_size() == 1) {
      WEFT_CHECK_EQ(held_.size(), 1u) << "not every slot has been added";
      shards_[g] = held_[0].grads[g];
    } else {
      WEFT_RETURN_IF_ERROR(ExchangeGroup(g));
    }
  }
  return OkStatus();
}

Status GradientReducer::ExchangeGroup(size_t g) {
  const int ranks = context_->dp_size();
  const int num_slots = context_->num_slots();
  const int64_t size = store_->groups()[g].shard_size;
  const at::TensorOptions options = store_->groups()[g].main_grad.options();
  const auto bytes_of = [&](int64_t subtrees) {
    return static_cast<size_t>(subtrees * size) * options.dtype().itemsize();
  };
  std::vector<std::vector<SlotNode>> nodes(static_cast<size_t>(ranks));
  int64_t total = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    nodes[rank] = CompleteSubtrees(num_slots, SlotsOfRank(num_slots, ranks, rank));
    total += static_cast<int64_t>(nodes[rank].size());
  }
  const auto own = static_cast<int64_t>(held_.size());
  WEFT_CHECK_EQ(held_.size(), nodes[context_->dp_rank()].size()) << "not every slot has been added";

  // One subtree goes out from where it is; several are packed owner by owner.
  at::Tensor packed = held_[0].grads[g].view({ranks, 1, size});
  if (own > 1) {
    packed = at::empty({ranks, own, size}, options);
    for (int64_t i = 0; i < own; ++i)
      packed.select(1, i).copy_(held_[i].grads[g].view({ranks, size}));
  }
  at::Tensor received = at::empty({total, size}, options);
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  std::vector<Part> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    send.push_back({packed[rank].data_ptr(), bytes_of(own)});
    recv.push_back({received[static_cast<int64_t>(parts.size())].data_ptr(),
                    bytes_of(static_cast<int64_t>(nodes[rank].size()))});
    for (const SlotNode node : nodes[rank])
      parts.push_back({node, received[static_cast<int64_t>(parts.size())]});
  }
  WEFT_RETURN_IF_ERROR(
      context_->Wait(context_->dp().AllToAll(send, recv, context_->Op("grads.exchange"))));
  shards_[g] = Combine(num_slots, RootNode(num_slots), parts);
  return OkStatus();
}

}  // namespace weft
