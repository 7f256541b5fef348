#include "parallel/engine/parameter_store.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/StorageImpl.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"
#include "parallel/engine/dtypes.h"
#include "parallel/memory/memory_meter.h"

namespace weft {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t LocalElements(const Parameter& parameter) {
  int64_t total = 0;
  for (const TensorBox& box : parameter.boxes) total += box.NumElements();
  return total;
}

// Elements that the group's parameters take, gaps included.
int64_t UsedSize(const ParameterGroup& group) {
  if (group.parameters.empty()) return 0;
  const Parameter& last = *group.parameters.back();
  return RoundUp(last.offset + LocalElements(last), ParameterStore::kBlock);
}

// A tensor over part of the buffer's storage. It shares memory but no version counter: autograd does not see writes of the
// optimizer and of gathers.
at::Tensor View(const at::Tensor& buffer, int64_t offset, at::IntArrayRef shape) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  at::Tensor view = at::empty({0}, buffer.options());
  return view.set_(buffer.storage(), offset, shape, strides);
}

// Gives the buffer memory for all of its elements, or takes it away; views stay valid.
void ResizeStorage(const at::Tensor& buffer, size_t bytes) {
  c10::StorageImpl* storage = buffer.storage().unsafeGetStorageImpl();
  if (storage->nbytes() == bytes) return;
  storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
  storage->set_nbytes(bytes);
}

// Runs of neighbouring elements: local and global flat index, length.
template <typename F>
void ForEachRun(const Parameter& parameter, const F& f) {
  const std::vector<int64_t>& shape = parameter.spec.shape;
  const int dim = parameter.spec.tp_dim;
  if (dim < 0) return f(0, 0, parameter.spec.NumElements());
  int64_t outer = 1;
  int64_t inner = 1;
  for (int d = 0; d < dim; ++d) outer *= shape[d];
  for (size_t d = static_cast<size_t>(dim) + 1; d < shape.size(); ++d) inner *= shape[d];
  int64_t local = 0;
  for (const TensorBox& box : parameter.boxes) {
    const int64_t length = box.lengths[dim] * inner;
    for (int64_t o = 0; o < outer; ++o) {
      f(local, (o * shape[dim] + box.offsets[dim]) * inner, length);
      local += length;
    }
  }
}

std::vector<PlacedParam> InOneStage(const std::vector<ParamSpec>& specs) {
  std::vector<PlacedParam> placed;
  for (const ParamSpec& spec : specs) placed.push_back({spec, 0, static_cast<int>(placed.size())});
  return placed;
}

}  // namespace

void Parameter::UseDirectGradient() {
  direct = true;
  value.set_requires_grad(false);
}

void InitValues(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, double* out) {
  const KeyedRandom random(seed, "init:" + spec.source());
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
    auto parameter = std::make_unique<Parameter>();
    parameter->spec = placed.spec;
    parameter->stage = placed.stage;
    parameter->index = placed.index;
    parameter->tie_rank = placed.tie_rank;
    parameter->boxes = TpBoxes(placed.spec, context_->tp_size(), context_->tp_rank());
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

void ParameterStore::Allocate(ParameterGroup* group) {
  const int64_t ranks = context_->shards();
  group->shard_size = RoundUp(UsedSize(*group), kBlock * ranks) / ranks;
  const int64_t size = group->shard_size * ranks;
  const at::ScalarType type = group->kind.value_type;
  const at::TensorOptions master_options = TensorsOf(accumulate_type_);
  const MemoryScope parameters(MemoryCategory::kParameters);
  if (group->kind.gathered) {
    group->values = at::empty({size}, TensorsOf(type));
    group->shard_values = at::zeros({group->shard_size}, TensorsOf(type));
  } else {
    group->values = at::zeros({size}, TensorsOf(type));
    group->shard_values =
        group->values.narrow(0, context_->shard() * group->shard_size, group->shard_size);
  }
  const bool own_master = group->trainable() && type != accumulate_type_ && !group->replica();
  group->master = group->shard_values;
  if (own_master) {
    const MemoryScope optimizer(MemoryCategory::kOptimizer);
    group->master = at::zeros({group->shard_size}, master_options);
  }
  if (group->trainable()) {
    const MemoryScope gradients(MemoryCategory::kGradients);
    group->main_grad = at::zeros({size}, master_options);
  }
  MakeViews(group);
  if (group->kind.gathered) ResizeStorage(group->values, 0);
}

void ParameterStore::MakeViews(ParameterGroup* group) {
  for (Parameter* parameter : group->parameters) {
    const std::vector<int64_t> shape =
        LocalShape(parameter->spec, context_->tp_size(), context_->tp_rank());
    parameter->value = View(group->values, parameter->offset, shape);
    parameter->anchor = at::empty({0}, group->values.options());
    if (!group->trainable()) continue;
    parameter->main_grad = View(group->main_grad, parameter->offset, shape);
    parameter->value.set_requires_grad(true);
    parameter->anchor.set_requires_grad(true);
  }
}

void ParameterStore::FillAll(const Fill& fill) {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<double> chunk(kChunk);
  for (const auto& parameter : parameters_) {
    ParamSpec source = parameter->spec;
    source.name = source.source();
    ForEachRun(*parameter, [&](int64_t local, int64_t global, int64_t length) {
      for (int64_t begin = 0; begin < length; begin += kChunk) {
        const int64_t count = std::min(kChunk, length - begin);
        fill(source, global + begin, global + begin + count, chunk.data());
        const at::Tensor exact = at::from_blob(chunk.data(), {count}, at::kDouble);
        FillRange(*parameter, local + begin, exact.to(accumulate_type_));
      }
    });
  }
}

// Values are rounded from the master type, as after every optimizer step.
void ParameterStore::FillRange(const Parameter& parameter, int64_t local_begin,
                               const at::Tensor& master) {
  ParameterGroup& group = groups_[static_cast<size_t>(parameter.group)];
  const int64_t begin = parameter.offset + local_begin;
  if (!group.kind.gathered) group.values.narrow(0, begin, master.numel()).copy_(master);
  const int64_t shard_begin = context_->shard() * group.shard_size;
  const int64_t from = std::max(begin, shard_begin);
  const int64_t to = std::min(begin + master.numel(), shard_begin + group.shard_size);
  if (from >= to) return;
  const at::Tensor part = master.narrow(0, from - begin, to - from);
  group.shard_values.narrow(0, from - shard_begin, to - from).copy_(part);
  group.master.narrow(0, from - shard_begin, to - from).copy_(part);
}

void ParameterStore::Initialize(uint64_t seed) {
  FillAll([seed](const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
    InitValues(spec, seed, begin, end, out);
  });
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
  Status first;
  for (WorkPtr& work : works) {
    const Status status = context_->Wait(std::move(work));
    if (first.ok()) first = status;
  }
  return first;
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
  Status first;
  for (WorkPtr& work : works) {
    const Status status = context_->Wait(std::move(work));
    if (first.ok()) first = status;
  }
  return first;
}

void ParameterStore::LaunchGather(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (!group.kind.gathered || group.gather != nullptr || group.values.storage().nbytes() > 0)
    return;
  const MemoryScope scope(MemoryCategory::kParameters);
  ResizeStorage(group.values, static_cast<size_t>(group.shard_size) * context_->shards() *
                                  group.values.element_size());
  group.gather = context_->AllGatherShards(group.shard_values.data_ptr(), group.values.data_ptr(),
                                           group.shard_values.nbytes(), "parameters.gather");
}

Status ParameterStore::WaitGather(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (group.gather == nullptr) return OkStatus();
  return context_->Wait(std::move(group.gather));
}

void ParameterStore::Release(int group_index) {
  ParameterGroup& group = groups_[static_cast<size_t>(group_index)];
  if (!group.kind.gathered) return;
  WEFT_CHECK(group.gather == nullptr) << "released while it is gathered";
  ResizeStorage(group.values, 0);
}

int64_t ParameterStore::num_parameters() const {
  int64_t total = 0;
  for (const auto& parameter : parameters_) {
    if (parameter->spec.tie.empty()) total += LocalElements(*parameter);
  }
  return total;
}

}  // namespace weft
