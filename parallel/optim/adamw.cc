#include "parallel/optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"

namespace weft {
namespace {

constexpr int64_t kBlock = ParameterStore::kBlock;

StateSlice MakeSlice(const std::string& prefix, const ShardSlice& part, const at::Tensor& shard) {
  StateSlice slice;
  slice.name = prefix + part.parameter->spec.name;
  slice.dtype = CheckpointTypeName(shard.scalar_type());
  slice.global_shape = part.parameter->spec.shape;
  slice.flat_begin = part.flat_begin;
  slice.flat_end = part.flat_end;
  slice.data = static_cast<char*>(shard.data_ptr()) +
               part.shard_offset * static_cast<int64_t>(shard.element_size());
  slice.bytes = static_cast<size_t>(part.flat_end - part.flat_begin) * shard.element_size();
  return slice;
}

}  // namespace

AdamW::AdamW(const OptimizerRecipe& options, ParameterStore* store)
    : options_(options), store_(store) {
  for (const ParameterGroup& group : store_->groups()) {
    GroupState& state = groups_.emplace_back();
    if (!group.trainable) continue;
    state.m = at::zeros({group.shard_size}, at::TensorOptions(store_->accumulate_type()));
    state.v = at::zeros({group.shard_size}, at::TensorOptions(store_->accumulate_type()));
    FindRanges(group, &state);
  }
}

// A parameter's range is padded to whole blocks: the gap's weights, gradients and moments are zero and stay so.
void AdamW::FindRanges(const ParameterGroup& group, GroupState* state) const {
  for (const ShardSlice& slice : store_->ShardSlices(group)) {
    std::vector<Range>& ranges = slice.parameter->spec.decay ? state->decayed : state->undecayed;
    const int64_t begin = slice.shard_offset;
    const int64_t length = slice.flat_end - slice.flat_begin;
    const int64_t end = begin + (length + kBlock - 1) / kBlock * kBlock;
    if (!ranges.empty() && ranges.back().end == begin) {
      ranges.back().end = end;
    } else {
      ranges.push_back({begin, end});
    }
  }
}

Status AdamW::Step(double lr, const GradientReducer& gradients) {
  ++step_count_;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParameterGroup& group = store_->groups()[g];
    if (!group.trainable) continue;
    Update(group, groups_[g], groups_[g].decayed, gradients.shard(g), lr, options_.weight_decay());
    Update(group, groups_[g], groups_[g].undecayed, gradients.shard(g), lr, 0);
    Clamp(group);
  }
  return store_->Publish();
}

void AdamW::Update(const ParameterGroup& group, const GroupState& state,
                   const std::vector<Range>& ranges, const at::Tensor& grads, double lr,
                   double decay) {
  std::vector<at::Tensor> params, grad_parts, ms, vs, steps;
  for (const Range& range : ranges) {
    const int64_t length = range.end - range.begin;
    params.push_back(group.master.narrow(0, range.begin, length));
    grad_parts.push_back(grads.narrow(0, range.begin, length));
    ms.push_back(state.m.narrow(0, range.begin, length));
    vs.push_back(state.v.narrow(0, range.begin, length));
    steps.push_back(at::full({}, static_cast<double>(step_count_), at::TensorOptions(at::kFloat)));
  }
  if (params.empty()) return;
  // The kernel adds eps to the corrected root: sqrt(v / c) + eps / sqrt(c) = (sqrt(v) + eps) / sqrt(c).
  const double correction = 1 - std::pow(options_.beta2(), static_cast<double>(step_count_));
  const double eps = options_.eps_hat() ? options_.eps() / std::sqrt(correction) : options_.eps();
  at::_fused_adamw_(params, grad_parts, ms, vs, /*max_exp_avg_sqs=*/{}, steps, lr, options_.beta1(),
                    options_.beta2(), decay, eps, /*amsgrad=*/false, /*maximize=*/false);
}

void AdamW::Clamp(const ParameterGroup& group) {
  for (const ShardSlice& slice : store_->ShardSlices(group)) {
    const auto& clamp = slice.parameter->spec.clamp;
    if (!clamp) continue;
    at::Tensor(group.master)
        .narrow(0, slice.shard_offset, slice.flat_end - slice.flat_begin)
        .clamp_(clamp->min, clamp->max);
  }
}

std::vector<StateSlice> AdamW::ExportState() const {
  std::vector<StateSlice> slices;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParameterGroup& group = store_->groups()[g];
    for (const ShardSlice& part : store_->ShardSlices(group)) {
      slices.push_back(MakeSlice("param/", part, group.master));
      if (!group.trainable) continue;
      slices.push_back(MakeSlice("adam.m/", part, groups_[g].m));
      slices.push_back(MakeSlice("adam.v/", part, groups_[g].v));
    }
  }
  return slices;
}

Status AdamW::ImportState(int64_t step_count, const Read& read) {
  for (const StateSlice& slice : ExportState()) {
    WEFT_RETURN_IF_ERROR(read(slice.name, slice.flat_begin, slice.flat_end, slice.data));
  }
  step_count_ = step_count;
  return store_->Publish();
}

}  // namespace weft
