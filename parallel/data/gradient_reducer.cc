#include "parallel/data/gradient_reducer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/memory/memory_meter.h"

namespace weft {

GradientReducer::GradientReducer(ParameterStore* store, ParallelContext* context)
    : store_(store), context_(context) {
  Begin();
}

GradientReducer::~GradientReducer() {
  for (GroupState& state : groups_) context_->Abandon(std::move(state.work));
}

void GradientReducer::Begin() {
  for (GroupState& state : groups_) context_->Abandon(std::move(state.work));
  groups_.clear();
  for (size_t g = 0; g < store_->groups().size(); ++g) groups_.emplace_back(context_->num_slots());
}

int GradientReducer::num_rounds() const {
  return interleaved() ? (context_->num_slots() + context_->dp_size() - 1) / context_->dp_size()
                       : 1;
}

Status GradientReducer::Prepare(int group, int slot) {
  GroupState& state = groups_[static_cast<size_t>(group)];
  ParameterGroup& parameters = store_->groups()[static_cast<size_t>(group)];
  if (!parameters.trainable() || (state.prepared == slot && state.done != slot)) return OkStatus();
  WEFT_CHECK_EQ(state.prepared, state.done) << "the gradient of the slot before is not complete";
  if (!context_->deterministic() && slot > 0) {
    state.prepared = slot;  // slots go on adding to one sum
    return OkStatus();
  }
  WEFT_RETURN_IF_ERROR(Complete(group));
  const MemoryScope scope(MemoryCategory::kGradients);
  // What lies in main_grad moves out: sums of slots before, or the shard of a pass before.
  for (SlotTree::Part& part : state.tree.parts()) {
    if (part.sum.is_alias_of(parameters.main_grad)) part.sum = part.sum.clone();
  }
  if (state.shard.defined() && state.shard.is_alias_of(parameters.main_grad))
    state.shard = state.shard.clone();
  parameters.main_grad.zero_();
  state.prepared = slot;
  return OkStatus();
}

void GradientReducer::SlotDone(int group, int slot) {
  GroupState& state = groups_[static_cast<size_t>(group)];
  const ParameterGroup& parameters = store_->groups()[static_cast<size_t>(group)];
  if (!parameters.trainable()) return;
  WEFT_CHECK(state.prepared == slot && state.done != slot)
      << "a slot's gradient without a beginning";
  state.done = slot;
  if (context_->deterministic() && !interleaved()) {
    state.tree.Push({0, context_->slots()[static_cast<size_t>(slot)]}, parameters.main_grad);
  }
}

std::vector<SlotNode> GradientReducer::NodesOf(int rank, int round) const {
  const int num_slots = context_->num_slots();
  const int ranks = context_->dp_size();
  if (!interleaved()) return CompleteSubtrees(num_slots, SlotsOfRank(num_slots, ranks, rank));
  const int slot = round * ranks + rank;
  if (slot >= num_slots) return {};
  return {{0, slot}};
}

Status GradientReducer::Launch(int group, int round) {
  GroupState& state = groups_[static_cast<size_t>(group)];
  const ParameterGroup& parameters = store_->groups()[static_cast<size_t>(group)];
  if (!parameters.trainable()) return OkStatus();
  if (!context_->deterministic()) {
    if (round + 1 == num_rounds()) StartReduceScatter(&state, parameters);
    return OkStatus();
  }
  // A rank without a slot in this round may still be at the last one.
  WEFT_RETURN_IF_ERROR(Complete(group));
  state.round = round;
  if (context_->dp_size() > 1) {
    StartExchange(&state, parameters);
  } else if (interleaved()) {
    state.tree.Push({0, context_->slots()[static_cast<size_t>(round)]},
                    parameters.main_grad.clone());
    if (state.tree.complete()) EndPass(&state, state.tree.parts()[0].sum);
  } else {
    WEFT_CHECK(state.tree.complete()) << "not every slot has been added";
    EndPass(&state, state.tree.parts()[0].sum);
  }
  return OkStatus();
}

// The backend's own sum over ranks.
void GradientReducer::StartReduceScatter(GroupState* state, const ParameterGroup& group) {
  const auto shard_size = static_cast<size_t>(group.shard_size);
  const DType type = ToDType(group.main_grad.scalar_type());
  const OpOptions op = context_->Op("grads.exchange");
  if (context_->dp_size() == 1) {
    EndPass(state, group.main_grad);
  } else if (context_->shards() == context_->dp_size()) {
    state->received = at::empty({group.shard_size}, group.main_grad.options());
    state->work =
        context_->dp().ReduceScatter(group.main_grad.data_ptr(), state->received.data_ptr(),
                                     shard_size, type, ReduceOp::kSum, op);
  } else {
    state->received =
        group.main_grad.narrow(0, context_->shard() * group.shard_size, group.shard_size);
    state->work = context_->dp().AllReduce(group.main_grad.data_ptr(),
                                           static_cast<size_t>(group.main_grad.numel()), type,
                                           ReduceOp::kSum, op);
  }
}

// Own sums, owner by owner, against those of the other ranks for this rank's shard.
void GradientReducer::StartExchange(GroupState* state, const ParameterGroup& group) {
  const MemoryScope scope(MemoryCategory::kBuffers);
  const int ranks = context_->dp_size();
  const int shards = context_->shards();
  const int64_t size = group.shard_size;
  const at::TensorOptions options = group.main_grad.options();
  const auto bytes_of = [&](size_t subtrees) {
    return subtrees * static_cast<size_t>(size) * options.dtype().itemsize();
  };
  const size_t own = NodesOf(context_->dp_rank(), state->round).size();
  if (interleaved()) {
    state->packed = group.main_grad.view({shards, 1, size});
  } else {
    const std::vector<SlotTree::Part>& parts = state->tree.parts();
    WEFT_CHECK_EQ(parts.size(), own) << "not every slot has been added";
    // One subtree goes out from where it is; several are packed.
    state->packed = parts[0].sum.view({shards, 1, size});
    if (own > 1) {
      state->packed = at::empty({shards, static_cast<int64_t>(own), size}, options);
      for (size_t i = 0; i < own; ++i)
        state->packed.select(1, static_cast<int64_t>(i)).copy_(parts[i].sum.view({shards, size}));
    }
  }
  size_t total = 0;
  for (int rank = 0; rank < ranks; ++rank) total += NodesOf(rank, state->round).size();
  state->received = at::empty({static_cast<int64_t>(total), size}, options);
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  char* to = static_cast<char*>(state->received.data_ptr());
  for (int rank = 0; rank < ranks; ++rank) {
    const size_t bytes = bytes_of(NodesOf(rank, state->round).size());
    send.push_back({state->packed[rank % shards].data_ptr(), bytes_of(own)});
    recv.push_back({to, bytes});
    to += bytes;
  }
  state->work = context_->dp().AllToAll(send, recv, context_->Op("grads.exchange"));
}

Status GradientReducer::Complete(int group) {
  GroupState& state = groups_[static_cast<size_t>(group)];
  if (state.work == nullptr) return OkStatus();
  WEFT_RETURN_IF_ERROR(context_->Wait(std::move(state.work)));
  if (!context_->deterministic()) {
    EndPass(&state, std::exchange(state.received, at::Tensor()));
    return OkStatus();
  }
  if (!interleaved()) state.tree.Clear();
  int64_t next = 0;
  for (int rank = 0; rank < context_->dp_size(); ++rank) {
    for (const SlotNode node : NodesOf(rank, state.round))
      state.tree.Push(node, state.received[next++]);
  }
  state.packed.reset();
  const MemoryScope scope(MemoryCategory::kGradients);
  // What stays waits for later rounds: it must not hold the whole message.
  for (SlotTree::Part& part : state.tree.parts()) {
    if (next > 1 && part.sum.is_alias_of(state.received)) part.sum = part.sum.clone();
  }
  state.received.reset();
  if (state.tree.complete()) EndPass(&state, state.tree.parts()[0].sum);
  return OkStatus();
}

void GradientReducer::EndPass(GroupState* state, at::Tensor root) {
  if (state->shard.defined()) {
    state->shard.add_(root);
  } else {
    state->shard = std::move(root);
  }
  state->tree.Clear();
  state->prepared = -1;
  state->done = -1;
  state->round = -1;
}

Status GradientReducer::Finish() {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!store_->groups()[g].trainable()) continue;
    WEFT_RETURN_IF_ERROR(Complete(static_cast<int>(g)));
    WEFT_CHECK(groups_[g].shard.defined())
        << "group " << g << ": not every round has been launched";
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (store_->groups()[g].trainable() && store_->groups()[g].kind.tp_sum > 1)
      WEFT_RETURN_IF_ERROR(SumOverTensorRanks(static_cast<int>(g)));
  }
  return AddTiedGradients();
}

// Every rank sums the shards of its run of neighbours in their order: equal bits on each of them.
Status GradientReducer::SumOverTensorRanks(int group) {
  at::Tensor& shard = groups_[static_cast<size_t>(group)].shard;
  const int span = store_->groups()[static_cast<size_t>(group)].kind.tp_sum;
  const MemoryScope scope(MemoryCategory::kBuffers);
  at::Tensor all = at::empty({context_->tp_size(), shard.numel()}, shard.options());
  WEFT_RETURN_IF_ERROR(context_->Wait(
      context_->tp().AllGather(shard.data_ptr(), all.data_ptr(), static_cast<size_t>(shard.numel()),
                               ToDType(shard.scalar_type()), context_->Op("grads.tensor_sum"))));
  const int first = context_->tp_rank() / span * span;
  shard = all[first];
  for (int rank = first + 1; rank < first + span; ++rank) shard.add_(all[rank]);
  return OkStatus();
}

// The owner adds the replica's gradient to its own. Every send is under way before anybody waits.
Status GradientReducer::AddTiedGradients() {
  std::vector<WorkPtr> sends;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParameterGroup& group = store_->groups()[g];
    if (!group.trainable() || group.tie_rank() < 0 || !group.replica()) continue;
    at::Tensor& shard = groups_[g].shard;
    if (group.tie_rank() == context_->pp_rank()) {
      const Parameter* owner = store_->Get(group.parameters[0]->spec.tie);
      groups_[static_cast<size_t>(owner->group)].shard.add_(shard);
    } else {
      sends.push_back(context_->pp().Send(shard.data_ptr(), shard.nbytes(), group.tie_rank(),
                                          context_->Op("tie.gradient")));
    }
  }
  Status first;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParameterGroup& group = store_->groups()[g];
    if (!group.trainable() || group.tie_rank() < 0 || group.replica()) continue;
    if (group.tie_rank() == context_->pp_rank()) continue;
    at::Tensor other = at::empty_like(groups_[g].shard);
    const Status status = context_->Wait(context_->pp().Recv(
        other.data_ptr(), other.nbytes(), group.tie_rank(), context_->Op("tie.gradient")));
    if (first.ok()) first = status;
    groups_[g].shard.add_(other);
  }
  for (WorkPtr& send : sends) {
    const Status status = context_->Wait(std::move(send));
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace weft
