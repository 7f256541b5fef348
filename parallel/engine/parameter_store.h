// The parameters of this rank's stages in flat buffers, cut into groups: a run of blocks and one kind (compute type,
// trained or not, how tp treats them). A group is the unit of the gradient exchange. In a group every tensor starts at a
// multiple of kBlock elements and the gaps are zero, so that the fixed blocks of the gradient norm and the vectors of the
// optimizer's kernel fall the same way for every number of ranks and every grouping. The dp ranks (of a
// group of shard_ranks) each own one contiguous shard of every group, a multiple of kBlock long: its gradient sums, master
// weights and moments.
//
// With ZeRO stage 3 the matrices of a block exist only as shards; LaunchGather and Release bring them and let them go.
// Tied pairs: see ParamSpec::tie; each half is a group of its own.
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
  // What all parameters of a group have in common.
  struct Kind {
    int bucket = 0;
    at::ScalarType value_type = at::kFloat;
    bool trainable = true;
    // Neighbouring tp ranks over which gradients are summed.
    int tp_sum = 1;
    // The full values exist only between LaunchGather and Release.
    bool gathered = false;
    bool operator==(const Kind&) const = default;
  };
  Kind kind;
  int stage = 0;
  // In the model's order, which is the order in the buffers.
  std::vector<Parameter*> parameters;
  // Elements of a shard; the buffers hold context.shards() of them.
  int64_t shard_size = 0;
  at::Tensor values;
  // Undefined in a group that is not trained. Accumulation type.
  at::Tensor main_grad;
  // This rank's shard: master weights (accumulation type if trained), and values in the compute type; views of each
  // other and of `values` where they can be.
  at::Tensor master;
  at::Tensor shard_values;
  // Of LaunchGather.
  WorkPtr gather;

  bool trainable() const { return kind.trainable; }
  // The half of a tied pair that has no optimizer state.
  bool replica() const { return !parameters[0]->spec.tie.empty(); }
  int tie_rank() const { return parameters[0]->tie_rank; }
};

// The part of a parameter's local tensor that lies in this rank's shard of its group.
struct ShardSlice {
  const Parameter* parameter = nullptr;
  // Of the local tensor's row-major elements.
  int64_t flat_begin = 0;
  int64_t flat_end = 0;
  // Where flat_begin is in the shard.
  int64_t shard_offset = 0;
};

// A parameter and where it lives.
struct PlacedParam {
  ParamSpec spec;
  int stage = 0;
  // In the whole model, over all stages.
  int index = 0;
  // Pipeline rank with the other half of a tied pair.
  int tie_rank = -1;
};

struct StoreOptions {
  Precision precision = FP32;
  int zero_stage = 1;
  // A group is closed at the end of a block once its gradients take so many bytes. ZeRO 3: at the end of each block.
  int64_t bucket_bytes = 32 << 20;
  // Parameters of the whole model.
  int num_model_params = 0;
};

class ParameterStore {
 public:
  // Elements; tensors and shards start at multiples of it.
  static constexpr int64_t kBlock = 4096;
  // Writes elements [begin, end) of the global parameter to `out`.
  using Fill = std::function<void(const ParamSpec& spec, int64_t begin, int64_t end, double* out)>;

  // `context` must outlive the store. Values are zero until FillAll.
  ParameterStore(const std::vector<PlacedParam>& params, const StoreOptions& options,
                 ParallelContext* context);
  // A whole model in one stage.
  ParameterStore(const std::vector<ParamSpec>& specs, Precision precision,
                 ParallelContext* context);
  ~ParameterStore();
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  // Sets values and masters; no communication: every rank computes what it holds.
  void FillAll(const Fill& fill);
  // Keyed by (seed, "init:NAME", flat index): the same bits for every layout.
  void Initialize(uint64_t seed);

  // The block or join with these parameters runs on this rank.
  bool Holds(const std::vector<ParamSpec>& params) const;
  // REQUIRES: a parameter of that name.
  Parameter* Get(const std::string& name);
  Parameter* Find(const std::string& name);  // null: none
  const std::vector<std::unique_ptr<Parameter>>& parameters() const { return parameters_; }
  std::vector<ParameterGroup>& groups() { return groups_; }
  const std::vector<ParameterGroup>& groups() const { return groups_; }
  std::vector<ShardSlice> ShardSlices(const ParameterGroup& group) const;
  // Groups with parameters of a block or join, ascending.
  const std::vector<int>& GroupsOfOwner(const std::string& owner) const;
  // Groups of a stage in the order in which their exchanges start: the last blocks first.
  std::vector<int> GroupsOfStage(int stage) const;

  // Master shards -> values of this rank's shard -> all ranks' values. A collective.
  Status Publish();

  // Only for groups whose kind is gathered; nothing else does anything. LaunchGather is a collective over dp and does not
  // wait; the values may be read after WaitGather and until Release.
  void LaunchGather(int group);
  Status WaitGather(int group);
  void Release(int group);

  Precision precision() const { return options_.precision; }
  at::ScalarType accumulate_type() const { return accumulate_type_; }
  // Of what is made in the computation.
  at::TensorOptions TensorsOf(at::ScalarType type) const {
    return context_->device().Options(type);
  }
  ParallelContext& context() { return *context_; }
  int num_model_params() const { return options_.num_model_params; }
  // Of this rank.
  int64_t num_parameters() const;

 private:
  void Place(Parameter* parameter, int bucket);
  ParameterGroup::Kind KindOf(const Parameter& parameter, int bucket) const;
  void Allocate(ParameterGroup* group);
  void MakeViews(ParameterGroup* group);
  void FillRange(const Parameter& parameter, int64_t local_begin, const at::Tensor& master);
  Status ExchangeTiedValues();

  StoreOptions options_;
  at::ScalarType accumulate_type_;
  ParallelContext* context_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::unordered_map<std::string, Parameter*> by_name_;
  std::vector<ParameterGroup> groups_;
  std::unordered_map<std::string, std::vector<int>> groups_of_owner_;
};

// The elements [begin, end) that `spec.init` and the seed give.
void InitValues(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, double* out);

}  // namespace weft
