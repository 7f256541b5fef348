#include "parallel/optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/memory/memory_meter.h"

namespace weft {
namespace {

constexpr int64_t kBlock = ParameterStore::kBlock;

// One slice for each of the parameter's boxes that the shard has a part of.
void AppendSlices(const std::string& prefix, const ShardSlice& part, const at::Tensor& shard,
                  std::vector<StateSlice>* slices) {
  int64_t box_begin = 0;
  for (const TensorBox& box : part.parameter->boxes) {
    const int64_t box_end = box_begin + box.NumElements();
    const int64_t from = std::max(part.flat_begin, box_begin);
    const int64_t to = std::min(part.flat_end, box_end);
    if (from < to) {
      const auto element = static_cast<int64_t>(shard.element_size());
      StateSlice slice;
      slice.name = prefix + part.parameter->spec.name;
      slice.dtype = CheckpointTypeName(shard.scalar_type());
      slice.global_shape = part.parameter->spec.shape;
      slice.box = box;
      slice.flat_begin = from - box_begin;
      slice.flat_end = to - box_begin;
      slice.data = static_cast<char*>(shard.data_ptr()) +
                   (part.shard_offset + from - part.flat_begin) * element;
      slice.bytes = static_cast<size_t>((to - from) * element);
      slices->push_back(slice);
    }
    box_begin = box_end;
  }
}

// Runs of the global tensor's row-major elements that a slice is made of.
template <typename F>
Status ForEachGlobalRun(const StateSlice& slice, const F& f) {
  const size_t dims = slice.global_shape.size();
  // The longest run: trailing dimensions that the box has wholly, and the one before.
  int64_t run = 1;
  size_t dim = dims;
  while (dim > 0) {
    --dim;
    run *= slice.box.lengths[dim];
    if (slice.box.lengths[dim] != slice.global_shape[dim]) break;
  }
  for (int64_t at = slice.flat_begin; at < slice.flat_end;) {
    const int64_t end = std::min(slice.flat_end, (at / run + 1) * run);
    int64_t rest = at;
    int64_t global = 0;
    int64_t stride = 1;
    for (size_t d = dims; d-- > 0;) {
      global += (slice.box.offsets[d] + rest % slice.box.lengths[d]) * stride;
      rest /= slice.box.lengths[d];
      stride *= slice.global_shape[d];
    }
    WEFT_RETURN_IF_ERROR(f(global, global + (end - at), at - slice.flat_begin));
    at = end;
  }
  return OkStatus();
}

}  // namespace

AdamW::AdamW(const OptimizerRecipe& options, ParameterStore* store)
    : options_(options), store_(store) {
  for (const ParameterGroup& group : store_->groups()) {
    GroupState& state = groups_.emplace_back();
    if (!group.trainable() || group.replica()) continue;
    const MemoryScope scope(MemoryCategory::kOptimizer);
    state.m = at::zeros({group.shard_size}, store_->TensorsOf(store_->accumulate_type()));
    state.v = at::zeros({group.shard_size}, store_->TensorsOf(store_->accumulate_type()));
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
    if (!group.trainable() || group.replica()) continue;
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
    steps.push_back(
        at::full({}, static_cast<double>(step_count_), grads.options().dtype(at::kFloat)));
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

at::Tensor AdamW::OnHost(const std::string& prefix, size_t group, const at::Tensor& shard) {
  if (shard.is_cpu()) return shard;
  at::Tensor& copy = host_copies_[{prefix, group}];
  if (!copy.defined())
    copy = store_->context().device().HostBuffer(shard.sizes(), shard.scalar_type());
  copy.copy_(shard, /*non_blocking=*/true);
  return copy;
}

std::vector<StateSlice> AdamW::HeldState() {
  std::vector<StateSlice> slices;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const ParameterGroup& group = store_->groups()[g];
    if (group.replica()) continue;
    const at::Tensor master = OnHost("param/", g, group.master);
    const at::Tensor m = group.trainable() ? OnHost("adam.m/", g, groups_[g].m) : at::Tensor();
    const at::Tensor v = group.trainable() ? OnHost("adam.v/", g, groups_[g].v) : at::Tensor();
    for (const ShardSlice& part : store_->ShardSlices(group)) {
      AppendSlices("param/", part, master, &slices);
      if (!group.trainable()) continue;
      AppendSlices("adam.m/", part, m, &slices);
      AppendSlices("adam.v/", part, v, &slices);
    }
  }
  store_->context().device().Synchronize();
  return slices;
}

void AdamW::TakeFromHost() {
  for (const auto& [key, copy] : host_copies_) {
    const auto& [prefix, g] = key;
    const at::Tensor& shard = prefix == "param/"    ? store_->groups()[g].master
                              : prefix == "adam.m/" ? groups_[g].m
                                                    : groups_[g].v;
    shard.copy_(copy);
  }
}

std::vector<StateSlice> AdamW::ExportState() {
  const ParallelContext& context = store_->context();
  std::vector<StateSlice> slices;
  // The first of the groups that hold copies.
  if (context.dp_rank() >= context.shards()) return slices;
  for (StateSlice& slice : HeldState()) {
    const std::string name = slice.name.substr(slice.name.find('/') + 1);
    // The first of the tp ranks that hold the same slice.
    if (context.tp_rank() % TpReplicas(store_->Get(name)->spec, context.tp_size()) == 0)
      slices.push_back(std::move(slice));
  }
  return slices;
}

Status AdamW::ImportState(int64_t step_count, const Read& read) {
  for (const StateSlice& slice : HeldState()) {
    const auto element = static_cast<int64_t>(slice.bytes) / (slice.flat_end - slice.flat_begin);
    WEFT_RETURN_IF_ERROR(ForEachGlobalRun(slice, [&](int64_t begin, int64_t end,
                                                     int64_t slice_offset) {
      return read(slice.name, begin, end, static_cast<char*>(slice.data) + slice_offset * element);
    }));
  }
  TakeFromHost();
  step_count_ = step_count;
  return store_->Publish();
}

}  // namespace weft
