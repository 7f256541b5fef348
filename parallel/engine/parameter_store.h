// All parameters of a model in flat buffers: one group for each (compute type, trained or not). In a group every tensor
// starts at a multiple of kBlock elements and the gaps are zero, so that the fixed blocks of the gradient norm and the
// vectors of the optimizer's kernel fall the same way for every number of ranks. The dp ranks each own one contiguous
// shard of every group, a multiple of kBlock long: its gradient sums, master weights and moments.
//
// Values change through SetShard-like raw writes (optimizer, init) and Publish only: views made by from_blob share no
// version counter, so autograd does not notice.
// Errors: those of the communicator. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/param_spec.h"
#include "parallel/context.h"
#include "parallel/engine/parameter.h"

namespace weft {

struct ParameterGroup {
  at::ScalarType value_type = at::kFloat;
  bool trainable = true;
  // In the model's order, which is the order in the buffers.
  std::vector<Parameter*> parameters;
  // Elements of a shard; the buffers hold dp_size of them.
  int64_t shard_size = 0;
  at::Tensor values;
  // Undefined in a group that is not trained. Accumulation type.
  at::Tensor main_grad;
  // This rank's shard of the master weights: a view of `values` where the types agree.
  at::Tensor master;
};

// The part of a parameter that lies in this rank's shard.
struct ShardSlice {
  const Parameter* parameter = nullptr;
  // Of the parameter's row-major elements.
  int64_t flat_begin = 0;
  int64_t flat_end = 0;
  // Where flat_begin is in the shard.
  int64_t shard_offset = 0;
};

class ParameterStore {
 public:
  // Elements; tensors and shards start at multiples of it.
  static constexpr int64_t kBlock = 4096;
  // Writes elements [begin, end) of the parameter to `out`.
  using Fill = std::function<void(const ParamSpec& spec, int64_t begin, int64_t end, double* out)>;

  // `context` must outlive the store. Values are zero until FillAll.
  ParameterStore(const std::vector<ParamSpec>& specs, Precision precision,
                 ParallelContext* context);
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  // Sets values and masters; no communication: every rank computes what it holds.
  void FillAll(const Fill& fill);
  // Keyed by (seed, "init:NAME", flat index): the same bits for every number of ranks.
  void Initialize(uint64_t seed);

  // REQUIRES: a parameter of that name.
  Parameter* Get(const std::string& name);
  Parameter* Find(const std::string& name);  // null: none
  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  std::vector<ParameterGroup>& groups() { return groups_; }
  const std::vector<ParameterGroup>& groups() const { return groups_; }
  std::vector<ShardSlice> ShardSlices(const ParameterGroup& group) const;

  void ZeroMainGrads();
  // Master shards -> values of this rank's shard -> all ranks' values. A collective.
  Status Publish();

  Precision precision() const { return precision_; }
  at::ScalarType accumulate_type() const { return accumulate_type_; }
  ParallelContext& context() { return *context_; }
  int64_t num_parameters() const;

 private:
  void Place(Parameter* parameter);
  void Allocate(ParameterGroup* group);

  Precision precision_;
  at::ScalarType accumulate_type_;
  ParallelContext* context_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::vector<ParameterGroup> groups_;
};

// The elements [begin, end) that `spec.init` and the seed give.
void InitValues(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, double* out);

}  // namespace weft
