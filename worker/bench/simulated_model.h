// A model whose blocks take given times and compute nothing: equal stages on any machine, run by the real engine over real
// communicators. For what a schedule is worth where cores are fewer than ranks.
//
// Thread rule: as any model's.
#pragma once

#include <memory>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

struct SimulatedCosts {
  int blocks = 8;
  // Of one block and one micro-batch: forward, gradient of the input, gradient of the weights; each as long.
  double seconds = 0.002;
};

// One chain of blocks with a parameter each, and one Train phase.
ModelSpec MakeSimulatedSpec(const SimulatedCosts& costs);
std::unique_ptr<Model> MakeSimulatedModel(const SimulatedCosts& costs, const ModelSpec& spec,
                                          ParameterStore* store);
// What its first block reads.
NamedTensors SimulatedBatch(int64_t samples);

}  // namespace weft
