// A model before any tensor exists: one list of blocks with their parameters, their cost and the activations that go in
// and out, and the joins of its objective. Placement, cost model, checkpoint and engine read it. Torch-free.
//
// Thread rule: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/param_spec.h"

namespace weft {

// A tensor that crosses a block's border. Its first dimension, the samples of the micro-batch, is left out of `dims`.
struct ActivationSpec {
  std::string name;
  std::vector<int64_t> dims;
  // false: ids, pixels, masks.
  bool differentiable = true;
  // Rows of (sample, first dimension) are split over tp under sequence parallelism: [own rows, other dimensions].
  bool sequence = false;
  // In the accumulation type where others are in the compute type: features of a contrastive loss.
  bool wide = false;
  // A tp rank has it for its own images only (EncoderLayout DEAL).
  bool dealt = false;
  // Entries of the first dimension for each sample: the pictures of a packed row. The loader gives [samples, per_sample,
  // dims]; blocks see [samples * per_sample, dims].
  int64_t per_sample = 1;
};

struct BlockSpec {
  std::string name;
  // Blocks of one tower form a chain; an encoder can be run alone.
  std::string tower;
  std::vector<ParamSpec> params;
  // Multiplications and additions of one sample's forward pass: of all its entries.
  double forward_flops = 0;
  std::vector<ActivationSpec> inputs;
  std::vector<ActivationSpec> outputs;
  // Entries that the block works on for each sample; its MicroBatchContext counts those.
  int64_t per_sample = 1;
};

// A step of the objective that sees the outputs of many micro-batches at once. It may own parameters.
struct JoinSpec {
  std::string name;
  std::vector<ParamSpec> params;
  std::vector<ActivationSpec> inputs;
};

struct ModelSpec {
  std::string family;
  // Tower of the image encoder; empty: none.
  std::string encoder;
  std::vector<BlockSpec> blocks;
  std::vector<JoinSpec> joins;

  // Every parameter once: blocks in order, then joins. Replicas of tied parameters are among them.
  std::vector<ParamSpec> Params() const;
  // Without replicas.
  int64_t NumParameters() const;
  // Of parameters whose name starts with `prefix`.
  int64_t NumParameters(const std::string& prefix) const;
  double ForwardFlopsPerSample() const;
  // Forward, and twice that for the backward: the usual count for model FLOPs utilisation.
  double TrainFlopsPerSample() const { return 3 * ForwardFlopsPerSample(); }
};

// The spec of the family that recipe.model names, for the rows that recipe.data makes. Errors: InvalidArgument, naming the
// recipe's field.
StatusOr<ModelSpec> MakeModelSpec(const Recipe& recipe);

// Freezes every parameter that no pattern ("visual.*") matches; no patterns: all are trained. A replica goes with its
// owner.
// Errors: InvalidArgument: a pattern that matches nothing, with the nearest name.
Status ApplyTrainable(const std::vector<std::string>& patterns, ModelSpec* spec);

}  // namespace weft
