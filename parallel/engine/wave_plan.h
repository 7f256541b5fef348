// What a wave means for each stage: its blocks, and the activations that cross each border. An activation that is made
// before a border and used after it crosses it, also where the stage only passes it on; so does its gradient.
//
// Thread rule: pure functions; values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/spec/model_spec.h"
#include "parallel/context.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/stages.h"

namespace weft {

// By block: it needs a backward. By activation: it gets a gradient.
struct TapeMap {
  std::vector<bool> taped;
  std::map<std::string, bool> needs_grad;
};
// A block needs a tape if it trains a parameter or if one of its inputs wants a gradient.
TapeMap MakeTapeMap(const ModelSpec& spec);

struct WavePlan {
  struct Stage {
    int first_block = 0;
    int end_block = 0;
    // To the next stage, in the order in which blocks make them; and those of them whose gradients come back.
    std::vector<ActivationSpec> crossing;
    std::vector<ActivationSpec> crossing_grads;
  };
  const Wave* wave = nullptr;
  std::vector<Stage> stages;
};

// `wave` must outlive the plan.
WavePlan MakeWavePlan(const ModelSpec& spec, const TapeMap& tape, const Stages& stages,
                      const Wave& wave);

// Shape on one rank of an activation of a micro-batch of `samples`.
std::vector<int64_t> LocalActivationShape(const ActivationSpec& spec, int64_t samples,
                                          const ParallelContext& context);

}  // namespace weft
