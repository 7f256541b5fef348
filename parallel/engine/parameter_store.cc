#include "parallel/engine/parameter_store.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"
#include "parallel/engine/dtypes.h"

namespace weft {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Elements that the group's parameters take, gaps included.
int64_t UsedSize(const ParameterGroup& group) {
  if (group.parameters.empty()) return 0;
  const Parameter& last = *group.parameters.back();
  return RoundUp(last.offset + last.spec.NumElements(), ParameterStore::kBlock);
}

at::Tensor View(const at::Tensor& buffer, const Parameter& parameter) {
  char* base = static_cast<char*>(buffer.data_ptr()) +
               parameter.offset * static_cast<int64_t>(buffer.element_size());
  return at::from_blob(base, parameter.spec.shape, buffer.options());
}

}  // namespace

void Parameter::UseDirectGradient() {
  direct = true;
  value.set_requires_grad(false);
}

void InitValues(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, double* out) {
  const KeyedRandom random(seed, "init:" + spec.name);
  const double scale = spec.init.value;
  const int64_t row = spec.padding_row < 0 ? 0 : spec.NumElements() / spec.shape[0];
  for (int64_t i = begin; i < end; ++i) {
    const auto element = static_cast<uint64_t>(i);
    if (row > 0 && i / row == spec.padding_row) {
      *out++ = 0;
      continue;
    }
    switch (spec.init.kind) {
      case InitKind::kConstant:
        *out++ = scale;
        break;
      case InitKind::kNormal:
        *out++ = scale * random.Normal(0, element);
        break;
      case InitKind::kUniform:
        *out++ = scale * (2 * random.Uniform(0, element) - 1);
        break;
    }
  }
}

ParameterStore::ParameterStore(const std::vector<ParamSpec>& specs, Precision precision,
                               ParallelContext* context)
    : precision_(precision), accumulate_type_(AccumulateType(precision)), context_(context) {
  for (const ParamSpec& spec : specs) {
    auto parameter = std::make_unique<Parameter>();
    parameter->spec = spec;
    const bool is_new = by_name_.emplace(spec.name, parameter.get()).second;
    WEFT_CHECK(is_new) << "two parameters are named " << spec.name;
    Place(parameter.get());
    parameters_.push_back(std::move(parameter));
  }
  for (ParameterGroup& group : groups_) Allocate(&group);
}

void ParameterStore::Place(Parameter* parameter) {
  const at::ScalarType type =
      parameter->spec.keep_fp32 ? accumulate_type_ : ComputeType(precision_);
  size_t index = 0;
  while (index < groups_.size() && (groups_[index].value_type != type ||
                                    groups_[index].trainable != parameter->trainable())) {
    ++index;
  }
  if (index == groups_.size()) {
    groups_.emplace_back();
    groups_[index].value_type = type;
    groups_[index].trainable = parameter->trainable();
  }
  parameter->group = static_cast<int>(index);
  parameter->offset = UsedSize(groups_[index]);
  groups_[index].parameters.push_back(parameter);
}

void ParameterStore::Allocate(ParameterGroup* group) {
  const int64_t ranks = context_->dp_size();
  group->shard_size = RoundUp(UsedSize(*group), kBlock * ranks) / ranks;
  const int64_t size = group->shard_size * ranks;
  group->values = at::zeros({size}, at::TensorOptions(group->value_type));
  if (group->trainable) group->main_grad = at::zeros({size}, at::TensorOptions(accumulate_type_));
  const bool own_master = group->trainable && group->value_type != accumulate_type_;
  group->master = own_master ? at::zeros({group->shard_size}, at::TensorOptions(accumulate_type_))
                             : group->values.narrow(0, context_->dp_rank() * group->shard_size,
                                                    group->shard_size);
  for (Parameter* parameter : group->parameters) {
    parameter->value = View(group->values, *parameter);
    parameter->anchor = at::empty({0}, group->values.options());
    if (!group->trainable) continue;
    parameter->main_grad = View(group->main_grad, *parameter);
    parameter->value.set_requires_grad(true);
    parameter->anchor.set_requires_grad(true);
  }
}

void ParameterStore::FillAll(const Fill& fill) {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<double> chunk(kChunk);
  for (ParameterGroup& group : groups_) {
    const int64_t shard_begin = context_->dp_rank() * group.shard_size;
    for (Parameter* parameter : group.parameters) {
      const int64_t elements = parameter->spec.NumElements();
      for (int64_t begin = 0; begin < elements; begin += kChunk) {
        const int64_t end = std::min(elements, begin + kChunk);
        fill(parameter->spec, begin, end, chunk.data());
        const at::Tensor exact = at::from_blob(chunk.data(), {end - begin}, at::kDouble);
        // Values are rounded from the master type, as after every optimizer step.
        const at::Tensor master = exact.to(accumulate_type_);
        group.values.narrow(0, parameter->offset + begin, end - begin).copy_(master);
        if (group.master.is_alias_of(group.values)) continue;
        const int64_t from = std::max(parameter->offset + begin, shard_begin);
        const int64_t to = std::min(parameter->offset + end, shard_begin + group.shard_size);
        if (from >= to) continue;
        group.master.narrow(0, from - shard_begin, to - from)
            .copy_(master.narrow(0, from - parameter->offset - begin, to - from));
      }
    }
  }
}

void ParameterStore::Initialize(uint64_t seed) {
  FillAll([seed](const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
    InitValues(spec, seed, begin, end, out);
  });
}

Parameter* ParameterStore::Get(const std::string& name) {
  Parameter* parameter = Find(name);
  WEFT_CHECK(parameter != nullptr) << "no parameter is named " << name;
  return parameter;
}

Parameter* ParameterStore::Find(const std::string& name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

std::vector<ShardSlice> ParameterStore::ShardSlices(const ParameterGroup& group) const {
  std::vector<ShardSlice> slices;
  const int64_t shard_begin = context_->dp_rank() * group.shard_size;
  for (const Parameter* parameter : group.parameters) {
    const int64_t from = std::max(parameter->offset, shard_begin);
    const int64_t to =
        std::min(parameter->offset + parameter->spec.NumElements(), shard_begin + group.shard_size);
    if (from >= to) continue;
    slices.push_back(
        {parameter, from - parameter->offset, to - parameter->offset, from - shard_begin});
  }
  return slices;
}

void ParameterStore::ZeroMainGrads() {
  for (ParameterGroup& group : groups_) {
    if (group.trainable) group.main_grad.zero_();
  }
}

Status ParameterStore::Publish() {
  std::vector<WorkPtr> works;
  for (ParameterGroup& group : groups_) {
    const int64_t begin = context_->dp_rank() * group.shard_size;
    at::Tensor own = group.values.narrow(0, begin, group.shard_size);
    if (!group.master.is_alias_of(group.values)) own.copy_(group.master);
    if (context_->dp_size() == 1) continue;
    works.push_back(context_->dp().AllGather(
        own.data_ptr(), group.values.data_ptr(), static_cast<size_t>(group.shard_size),
        ToDType(group.value_type), context_->Op("parameters.gather")));
  }
  Status first;
  for (WorkPtr& work : works) {
    const Status status = context_->Wait(std::move(work));
    if (first.ok()) first = status;
  }
  return first;
}

int64_t ParameterStore::num_parameters() const {
  int64_t total = 0;
  for (const auto& parameter : parameters_) total += parameter->spec.NumElements();
  return total;
}

}  // namespace weft
