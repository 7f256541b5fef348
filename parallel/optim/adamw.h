// AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW) on this rank's shard of the parameters, whatever the ZeRO stage. Master
// weights and moments are in the accumulation type. LibTorch's fused kernel runs on ranges whose ends are multiples of
// ParameterStore::kBlock, so the bits do not depend on the number of ranks; afterwards every rank gets every value.
//
// Errors: those of the communicator; Import passes on what `read` returns. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// A contiguous range of a named tensor of the training state, in the host's memory.
struct StateSlice {
  // "param/NAME" (master weights; the value itself where the parameter is not trained), "adam.m/NAME", "adam.v/NAME".
  std::string name;
  const char* dtype = "f32";  // "f32", "f64", "bf16"
  std::vector<int64_t> global_shape;
  // A box of the tensor, and of its row-major elements [flat_begin, flat_end).
  TensorBox box;
  int64_t flat_begin = 0;
  int64_t flat_end = 0;
  void* data = nullptr;
  size_t bytes = 0;
};

class AdamW {
 public:
  AdamW(const OptimizerRecipe& options, ParameterStore* store);
  AdamW(const AdamW&) = delete;
  AdamW& operator=(const AdamW&) = delete;

  // One update from the reducer's shards, then clamps and ParameterStore::Publish. A collective.
  Status Step(double lr, const GradientReducer& gradients);

  // Updates so far.
  int64_t step_count() const { return step_count_; }

  // All of the state that this rank saves; over all ranks each element of each tensor once. Pointers stay valid; those of a
  // device's state are to copies in the host's memory, made by this call.
  std::vector<StateSlice> ExportState();

  // Fills what this rank holds: `read(name, flat_begin, flat_end, out)` writes elements of the global tensor in the dtype
  // that ExportState gives for that name. Then publishes the values. A collective if `read` succeeds everywhere.
  using Read = std::function<Status(const std::string& name, int64_t flat_begin, int64_t flat_end,
                                    void* out)>;
  Status ImportState(int64_t step_count, const Read& read);

 private:
  // Neighbouring blocks of the shard with the same decay.
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };
  struct GroupState {
    at::Tensor m;
    at::Tensor v;
    std::vector<Range> decayed;
    std::vector<Range> undecayed;
  };
  // Of everything that this rank holds, copies of other tp ranks' included.
  std::vector<StateSlice> HeldState();
  // The shard of a group where the host can read it: itself, or a copy that is on its way.
  at::Tensor OnHost(const std::string& prefix, size_t group, const at::Tensor& shard);
  // The copies go back to the device.
  void TakeFromHost();
  void FindRanges(const ParameterGroup& group, GroupState* state) const;
  void Update(const ParameterGroup& group, const GroupState& state,
              const std::vector<Range>& ranges, const at::Tensor& grads, double lr, double decay);
  void Clamp(const ParameterGroup& group);

  OptimizerRecipe options_;
  ParameterStore* store_;
  std::vector<GroupState> groups_;
  // By prefix of the name and group; of a device's state only, from the first save on.
  std::map<std::pair<std::string, size_t>, at::Tensor> host_copies_;
  int64_t step_count_ = 0;
};

}  // namespace weft
