#include "parallel/engine/parameter_store.h"

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/engine/parameter_sizes.h"

namespace weft {
namespace {

std::vector<PlacedParam> InOneStage(const std::vector<ParamSpec>& specs) {
  std::vector<PlacedParam> placed;
  for (const ParamSpec& spec : specs) placed.push_back({spec, 0, static_cast<int>(placed.size())});
  return placed;
}

std::unique_ptr<Parameter> MakeParameter(const PlacedParam& placed,
                                         const ParallelContext& context) {
  auto parameter = std::make_unique<Parameter>();
  parameter->spec = placed.spec;
  parameter->stage = placed.stage;
  parameter->index = placed.index;
  parameter->tie_rank = placed.tie_rank;
  parameter->boxes = TpBoxes(placed.spec, context.tp_size(), context.tp_rank());
  return parameter;
}

}  // namespace

void Parameter::UseDirectGradient() {
  direct = true;
  value.set_requires_grad(false);
}

ParameterStore::ParameterStore(const std::vector<ParamSpec>& specs, Precision precision,
                               ParallelContext* context)
    : ParameterStore(InOneStage(specs),
                     {.precision = precision, .num_model_params = static_cast<int>(specs.size())},
                     context) {}

ParameterStore::ParameterStore(const std::vector<PlacedParam>& params, const StoreOptions& options,
                               ParallelContext* context)
    : options_(options), accumulate_type_(AccumulateType(options.precision)), context_(context) {
  int bucket = 0;
  int64_t bucket_bytes = 0;
  const auto element = static_cast<int64_t>(c10::elementSize(accumulate_type_));
  for (size_t i = 0; i < params.size(); ++i) {
    const PlacedParam& placed = params[i];
    std::unique_ptr<Parameter> parameter = MakeParameter(placed, *context_);
    const bool is_new = by_name_.emplace(placed.spec.name, parameter.get()).second;
    WEFT_CHECK(is_new) << "two parameters are named " << placed.spec.name;
    const bool new_stage = i > 0 && params[i - 1].stage != placed.stage;
    const bool new_block = i > 0 && params[i - 1].spec.owner != placed.spec.owner;
    const bool full = bucket_bytes >= options_.bucket_bytes || options_.zero_stage == 3;
    if (new_stage || (new_block && full)) {
      ++bucket;
      bucket_bytes = 0;
    }
    Place(parameter.get(), bucket);
    bucket_bytes += LocalElements(*parameter) * element;
    parameters_.push_back(std::move(parameter));
  }
  for (ParameterGroup& group : groups_) Allocate(&group);
}

ParameterStore::~ParameterStore() {
  for (ParameterGroup& group : groups_) context_->Abandon(std::move(group.gather));
}

ParameterGroup::Kind ParameterStore::KindOf(const Parameter& parameter, int bucket) const {
  const ParamSpec& spec = parameter.spec;
  const int tp = context_->tp_size();
  ParameterGroup::Kind kind;
  kind.bucket = bucket;
  kind.value_type = spec.keep_fp32 ? accumulate_type_ : ComputeType(options_.precision);
  kind.trainable = spec.trainable;
  if (spec.dealt || (spec.sequence_partial && context_->sequence_parallel())) {
    kind.tp_sum = tp;
  } else if (spec.tp_dim >= 0) {
    kind.tp_sum = TpReplicas(spec, tp);
  }
  // Autograd may keep a vector's values between forward and backward (norms), never a matrix's.
  kind.gathered = options_.zero_stage == 3 && context_->shards() > 1 && spec.shape.size() > 1;
  return kind;
}

void ParameterStore::Place(Parameter* parameter, int bucket) {
  const ParameterGroup::Kind kind = KindOf(*parameter, bucket);
  const bool tied = parameter->tie_rank >= 0;
  size_t index = tied ? groups_.size() : 0;
  while (index < groups_.size() &&
         (groups_[index].kind != kind || groups_[index].tie_rank() >= 0)) {
    ++index;
  }
  if (index == groups_.size()) {
    groups_.emplace_back();
    groups_[index].kind = kind;
    groups_[index].stage = parameter->stage;
  }
  parameter->group = static_cast<int>(index);
  parameter->offset = UsedSize(groups_[index]);
  groups_[index].parameters.push_back(parameter);
  std::vector<int>& of_owner = groups_of_owner_[parameter->spec.owner];
  const auto it = std::lower_bound(of_owner.begin(), of_owner.end(), parameter->group);
  if (it == of_owner.end() || *it != parameter->group) of_owner.insert(it, parameter->group);
}

bool ParameterStore::Holds(const std::vector<ParamSpec>& params) const {
  for (const ParamSpec& param : params) {
    if (by_name_.count(param.name) == 0) return false;
  }
  return true;
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
  const int64_t shard_begin = context_->shard() * group.shard_size;
  for (const Parameter* parameter : group.parameters) {
    const int64_t from = std::max(parameter->offset, shard_begin);
    const int64_t to =
        std::min(parameter->offset + LocalElements(*parameter), shard_begin + group.shard_size);
    if (from >= to) continue;
    slices.push_back(
        {parameter, from - parameter->offset, to - parameter->offset, from - shard_begin});
  }
  return slices;
}

const std::vector<int>& ParameterStore::GroupsOfOwner(const std::string& owner) const {
  static const std::vector<int> kNone;
  const auto it = groups_of_owner_.find(owner);
  return it == groups_of_owner_.end() ? kNone : it->second;
}

std::vector<int> ParameterStore::GroupsOfStage(int stage) const {
  std::vector<int> result;
  for (size_t g = groups_.size(); g-- > 0;) {
    if (groups_[g].stage == stage) result.push_back(static_cast<int>(g));
  }
  return result;
}

int64_t ParameterStore::num_parameters() const {
  int64_t total = 0;
  for (const auto& parameter : parameters_) {
    if (parameter->spec.tie.empty()) total += LocalElements(*parameter);
  }
  return total;
}

}  // namespace weft
