// A block: the unit between whose ends the engine is the tape. Autograd lives inside one block only. The engine runs
// Forward on detached inputs, keeps inputs and outputs, and later asks autograd for the gradients of that block alone.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/spec/model_spec.h"
#include "parallel/engine/parameter.h"

namespace weft {

using NamedTensors = std::map<std::string, at::Tensor>;

// Which micro-batch runs. Keyed random draws take their key and their offsets from here.
struct MicroBatchContext {
  uint64_t seed = 0;
  int64_t step = 0;
  int slot = 0;
  int micro_batch = 0;
  std::string wave;
  // Row of the global batch that the first sample is, and the number of samples.
  int64_t first_row = 0;
  int64_t samples = 0;
  // Targets of the wave's loss, if it has one and this rank computes it; -1: not known before the labels are looked at.
  int64_t targets = -1;
  // false: no dropout.
  bool training = true;
  // Attention shall keep its inputs only and compute its scores again in the backward: equal bits.
  bool selective_recompute = false;
  // Of the packed rows (Wave::segments); -1: not counted.
  int64_t segments = -1;

  // For a block that works on entries of samples (BlockSpec::per_sample).
  MicroBatchContext OfEntries(int64_t per_sample) const {
    MicroBatchContext entries = *this;
    entries.first_row *= per_sample;
    entries.samples *= per_sample;
    return entries;
  }
};

// As blocks see it: [samples, per_sample, dims] of the loader is [samples * per_sample, dims].
inline at::Tensor AsEntries(const at::Tensor& value, const ActivationSpec& spec) {
  return value.dim() == static_cast<int64_t>(spec.dims.size()) + 2 ? value.flatten(0, 1) : value;
}

class Block {
 public:
  Block(BlockSpec spec, std::vector<Parameter*> parameters)
      : spec_(std::move(spec)), parameters_(std::move(parameters)) {}
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // `inputs` in the order of spec().inputs, AsEntries; `context` is OfEntries(spec().per_sample). Returns the tensors of spec().outputs in that order. Called with and without
  // grad mode, and again for recomputation: equal inputs must give equal bits.
  virtual std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                          const MicroBatchContext& context) = 0;

  const BlockSpec& spec() const { return spec_; }
  const std::vector<Parameter*>& parameters() const { return parameters_; }

 private:
  BlockSpec spec_;
  std::vector<Parameter*> parameters_;
};

}  // namespace weft
