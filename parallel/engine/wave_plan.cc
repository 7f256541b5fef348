#include "parallel/engine/wave_plan.h"

#include <algorithm>

#include "models/spec/tp_slice.h"

namespace weft {

TapeMap MakeTapeMap(const ModelSpec& spec) {
  TapeMap map;
  for (const BlockSpec& block : spec.blocks) {
    bool taped = false;
    for (const ParamSpec& param : block.params) taped = taped || param.trainable;
    for (const ActivationSpec& input : block.inputs) taped = taped || map.needs_grad[input.name];
    for (const ActivationSpec& output : block.outputs)
      map.needs_grad[output.name] = taped && output.differentiable;
    map.taped.push_back(taped);
  }
  return map;
}

WavePlan MakeWavePlan(const ModelSpec& spec, const TapeMap& tape, const Stages& stages,
                      const Wave& wave) {
  WavePlan plan;
  plan.wave = &wave;
  // The last stage that uses each activation; what the wave leaves is used by joins, on the last stage.
  std::map<std::string, int> last_use;
  for (int b = wave.first_block; b < wave.end_block; ++b) {
    for (const ActivationSpec& input : spec.blocks[static_cast<size_t>(b)].inputs)
      last_use[input.name] = std::max(last_use[input.name], stages.StageOf(b));
  }
  for (const std::string& name : wave.outputs) last_use[name] = stages.last();
  for (int s = 0; s < stages.count(); ++s) {
    WavePlan::Stage stage;
    stage.first_block =
        std::clamp(stages.first_block[static_cast<size_t>(s)], wave.first_block, wave.end_block);
    stage.end_block = std::clamp(stages.end_block(s), wave.first_block, wave.end_block);
    for (int b = wave.first_block; b < stage.end_block; ++b) {
      for (const ActivationSpec& output : spec.blocks[static_cast<size_t>(b)].outputs) {
        const auto use = last_use.find(output.name);
        if (use == last_use.end() || use->second <= s) continue;
        stage.crossing.push_back(output);
        if (tape.needs_grad.at(output.name)) stage.crossing_grads.push_back(output);
      }
    }
    plan.stages.push_back(std::move(stage));
  }
  return plan;
}

std::vector<int64_t> LocalActivationShape(const ActivationSpec& spec, int64_t samples,
                                          const ParallelContext& context) {
  std::vector<int64_t> shape;
  const int tp = context.tp_size();
  const int rank = context.tp_rank();
  const int64_t entries = samples * spec.per_sample;
  if (spec.sequence && context.sequence_parallel() && !spec.dealt) {
    shape.push_back(EvenPart(entries * spec.dims[0], tp, rank).length);
    shape.insert(shape.end(), spec.dims.begin() + 1, spec.dims.end());
    return shape;
  }
  shape.push_back(spec.dealt ? EvenPart(entries, tp, rank).length : entries);
  shape.insert(shape.end(), spec.dims.begin(), spec.dims.end());
  return shape;
}

}  // namespace weft
