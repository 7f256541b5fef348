#include "worker/rank_state.h"

#include <string>
#include <utility>
#include <vector>

#include "models/registry.h"
#include "models/spec/encoder_layout.h"
#include "models/spec/placement.h"

namespace weft {
namespace {

ParallelOptions MakeParallelOptions(const Recipe& recipe, const AxisCommunicators& axes) {
  ParallelOptions options;
  options.dp = axes.dp;
  options.tp = axes.tp;
  options.pp = axes.pp;
  options.device = axes.device;
  options.num_slots = recipe.batch().slots();
  options.slot_order =
      recipe.layout().zero_stage() == 1 ? SlotOrder::kContiguous : SlotOrder::kInterleaved;
  options.shard_ranks = recipe.layout().shard_ranks();
  options.deterministic = recipe.deterministic();
  options.sequence_parallel = recipe.layout().sequence_parallel();
  options.timeout = FromSeconds(recipe.run().collective_timeout_s());
  return options;
}

StatusOr<Stages> MakeStages(const Recipe& recipe, const ModelSpec& spec,
                            const ParallelContext& parallel) {
  Stages stages;
  stages.num_blocks = static_cast<int>(spec.blocks.size());
  stages.ranks = parallel.pp_size();
  stages.rank = parallel.pp_rank();
  const int count = stages.ranks * recipe.layout().virtual_stages();
  if (count > stages.num_blocks) {
    return InvalidArgument("layout.pp x layout.virtual_stages is " + std::to_string(count) +
                           ", but the model has only " + std::to_string(stages.num_blocks) +
                           " blocks; use at most as many stages");
  }
  stages.first_block = CutBlocks(spec, count, recipe.layout().placement());
  return stages;
}

// The parameters of this rank's stages; those of joins are on the last stage.
std::vector<PlacedParam> OwnParams(const ModelSpec& spec, const Stages& stages) {
  std::vector<PlacedParam> own;
  std::map<std::string, int> rank_of;                     // parameter -> pipeline rank
  std::vector<std::pair<std::string, std::string>> ties;  // owner, replica
  int index = 0;
  const auto add = [&](const ParamSpec& param, int stage) {
    rank_of[param.name] = stages.RankOf(stage);
    if (!param.tie.empty()) ties.emplace_back(param.tie, param.name);
    if (stages.IsOwn(stage)) own.push_back({param, stage, index});
    ++index;
  };
  for (int b = 0; b < stages.num_blocks; ++b) {
    for (const ParamSpec& param : spec.blocks[static_cast<size_t>(b)].params)
      add(param, stages.StageOf(b));
  }
  for (const JoinSpec& join : spec.joins) {
    for (const ParamSpec& param : join.params) add(param, stages.last());
  }
  for (PlacedParam& placed : own) {
    for (const auto& [owner, replica] : ties) {
      if (placed.spec.name == owner) placed.tie_rank = rank_of.at(replica);
      if (placed.spec.name == replica) placed.tie_rank = rank_of.at(owner);
    }
  }
  return own;
}

}  // namespace

RankState::RankState(const Recipe& recipe, const AxisCommunicators& axes)
    : recipe_(recipe), parallel_(MakeParallelOptions(recipe, axes)) {}

StatusOr<std::unique_ptr<RankState>> RankState::Create(const Recipe& recipe, ModelSpec spec,
                                                       const AxisCommunicators& axes) {
  return Create(recipe, std::move(spec), axes, MakeModel);
}

StatusOr<std::unique_ptr<RankState>> RankState::Create(const Recipe& recipe, ModelSpec spec,
                                                       const AxisCommunicators& axes,
                                                       const ModelFactory& factory) {
  std::unique_ptr<RankState> state(new RankState(recipe, axes));
  ApplyEncoderLayout(recipe.layout(), &spec);
  WEFT_ASSIGN_OR_RETURN(state->stages_, MakeStages(recipe, spec, state->parallel_));
  StoreOptions options;
  options.precision = recipe.precision();
  options.zero_stage = recipe.layout().zero_stage();
  options.num_model_params = static_cast<int>(spec.Params().size());
  state->parameters_ =
      std::make_unique<ParameterStore>(OwnParams(spec, state->stages_), options, &state->parallel_);
  WEFT_ASSIGN_OR_RETURN(state->model_, factory(recipe, spec, state->parameters_.get()));
  state->gradients_ =
      std::make_unique<GradientReducer>(state->parameters_.get(), &state->parallel_);
  WEFT_ASSIGN_OR_RETURN(
      state->engine_,
      Engine::Create(MakeEngineOptions(recipe), state->stages_, state->model_.get(),
                     state->parameters_.get(), state->gradients_.get(), &state->parallel_));
  state->optimizer_ = std::make_unique<AdamW>(recipe.optimizer(), state->parameters_.get());
  return state;
}

bool RankState::reports() const {
  return parallel_.dp_rank() == 0 && parallel_.tp_rank() == 0 &&
         stages_.RankOf(stages_.last()) == stages_.rank;
}

}  // namespace weft
