// New values after an optimizer step, from the master shards to every rank that computes with them.
#include <utility>
#include <vector>

#include "parallel/engine/parameter_store.h"

namespace weft {
namespace {

// For all of them, also when one fails: their buffers are the store's. The first failure is returned.
Status WaitAll(std::vector<WorkPtr> works, ParallelContext* context) {
  Status first;
  for (WorkPtr& work : works) {
    const Status status = context->Wait(std::move(work));
    if (first.ok()) first = status;
  }
  return first;
}

}  // namespace

Status ParameterStore::Publish() {
  for (ParameterGroup& group : groups_) {
    if (!group.master.is_alias_of(group.shard_values)) group.shard_values.copy_(group.master);
  }
  WEFT_RETURN_IF_ERROR(ExchangeTiedValues());
  if (context_->shards() == 1) return OkStatus();
  std::vector<WorkPtr> works;
  for (ParameterGroup& group : groups_) {
    if (group.kind.gathered) continue;
    works.push_back(context_->AllGatherShards(group.shard_values.data_ptr(),
                                              group.values.data_ptr(), group.shard_values.nbytes(),
                                              "parameters.gather"));
  }
  return WaitAll(std::move(works), context_);
}

// Owners' new values go to the replicas. Every send is under way before anybody waits.
Status ParameterStore::ExchangeTiedValues() {
  std::vector<WorkPtr> works;
  for (ParameterGroup& group : groups_) {
    if (group.tie_rank() < 0) continue;
    if (group.tie_rank() == context_->pp_rank()) {
      if (!group.replica()) continue;
      const Parameter* owner = Get(group.parameters[0]->spec.tie);
      group.shard_values.copy_(groups_[static_cast<size_t>(owner->group)].shard_values);
    } else if (group.replica()) {
      works.push_back(context_->pp().Recv(group.shard_values.data_ptr(),
                                          group.shard_values.nbytes(), group.tie_rank(),
                                          context_->Op("tie.values")));
    } else {
      works.push_back(context_->pp().Send(group.shard_values.data_ptr(),
                                          group.shard_values.nbytes(), group.tie_rank(),
                                          context_->Op("tie.values")));
    }
  }
  return WaitAll(std::move(works), context_);
}

}  // namespace weft
