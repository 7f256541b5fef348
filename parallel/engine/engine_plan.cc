// What the engine works out once: phases, the list of actions, and which groups a block completes.
#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "parallel/engine/engine.h"
#include "parallel/schedule/verifier.h"

namespace weft {
namespace {

std::vector<const LossOutput*> OwnLosses(const Model& model, const Stages& stages) {
  std::vector<const LossOutput*> losses;
  for (const Wave& wave : model.objective.waves) {
    for (const LossOutput& loss : wave.losses) {
      for (int b = wave.first_block; b < wave.end_block; ++b) {
        for (const ActivationSpec& output : model.spec.blocks[static_cast<size_t>(b)].outputs) {
          if (output.name == loss.activation && stages.IsOwn(stages.StageOf(b)))
            losses.push_back(&loss);
        }
      }
    }
  }
  return losses;
}

bool MatchesAny(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                const std::string& name) {
  return patterns.empty() ||
         std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return GlobMatch(pattern, name); });
}

int BlockOfParam(const ModelSpec& spec, const std::string& name) {
  for (size_t b = 0; b < spec.blocks.size(); ++b) {
    for (const ParamSpec& param : spec.blocks[b].params) {
      if (param.name == name) return static_cast<int>(b);
    }
  }
  WEFT_CHECK(false) << "no block has the parameter " << name;
  return 0;
}

}  // namespace

EngineOptions MakeEngineOptions(const Recipe& recipe) {
  EngineOptions options;
  options.seed = recipe.seed();
  options.micro_batches = recipe.batch().micro_batches();
  options.micro_batch_size = recipe.batch().micro_batch_size();
  options.keep_wave = recipe.batch().keep_wave();
  options.layout = recipe.layout();
  return options;
}

StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, const Stages& stages,
                                                 Model* model, ParameterStore* store,
                                                 GradientReducer* reducer,
                                                 ParallelContext* context) {
  std::unique_ptr<Engine> engine(new Engine(options, stages, model, store, reducer, context));
  WEFT_RETURN_IF_ERROR(engine->PlanPhases());
  engine->PlanGroups();
  return engine;
}

Engine::Engine(const EngineOptions& options, const Stages& stages, Model* model,
               ParameterStore* store, GradientReducer* reducer, ParallelContext* context)
    : options_(options),
      stages_(stages),
      model_(model),
      store_(store),
      reducer_(reducer),
      context_(context),
      tape_map_(MakeTapeMap(model->spec)),
      link_(context),
      losses_(OwnLosses(*model, stages), options.micro_batches, context) {
  WEFT_CHECK_EQ(model->blocks.size(), static_cast<size_t>(stages.num_blocks));
  for (const BlockSpec& block : model->spec.blocks) {
    recomputes_.push_back(MatchesAny(options.layout.recompute_blocks(), block.name)
                              ? options.layout.recompute()
                              : RECOMPUTE_OFF);
  }
  for (const Wave& wave : model->objective.waves)
    waves_.push_back(MakeWavePlan(model->spec, tape_map_, stages_, wave));
  gathers_by_block_ = options.layout.zero_stage() == 3 &&
                      (stages_.ranks == 1 || options.layout.gather() == GATHER_MICRO_BATCH);
}

Status Engine::PlanPhases() {
  const Objective& objective = model_->objective;
  const auto wave_of = [&](const std::string& name) {
    for (size_t w = 0; w < objective.waves.size(); ++w) {
      if (objective.waves[w].name == name) return static_cast<int>(w);
    }
    WEFT_CHECK(false) << "the objective has no wave " << name;
    return 0;
  };
  const bool rerun = options_.keep_wave == FEATURES;
  std::vector<PhaseSpec> specs;
  for (const Phase& phase : objective.phases) {
    PhasePlan plan;
    plan.name = phase.name;
    plan.join = phase.kind == PhaseKind::kJoin;
    if (!plan.join) plan.wave = wave_of(phase.name);
    const bool forward = phase.kind == PhaseKind::kForward;
    plan.stores = phase.kind != PhaseKind::kBackward;
    const auto has_backward = [&](const Phase& other) {
      return other.kind == PhaseKind::kBackward && other.name == phase.name;
    };
    plan.keeps = forward ? !rerun && std::any_of(objective.phases.begin(), objective.phases.end(),
                                                 has_backward)
                         : true;
    PhaseSpec spec;
    spec.join = plan.join;
    spec.wave = plan.wave;
    spec.pass = forward                              ? PassKind::kForward
                : phase.kind == PhaseKind::kBackward ? PassKind::kBackward
                                                     : PassKind::kTrain;
    phases_.push_back(plan);
    specs.push_back(spec);
  }
  program_spec_ = MakeProgramSpec(specs);
  WEFT_ASSIGN_OR_RETURN(program_, PlanProgram(program_spec_));
  return OkStatus();
}

ProgramSpec Engine::MakeProgramSpec(const std::vector<PhaseSpec>& phases) const {
  ProgramSpec spec;
  spec.ranks = stages_.ranks;
  spec.chunks = stages_.count() / stages_.ranks;
  spec.micro_batches_a_slot = options_.micro_batches;
  spec.schedule = options_.layout.schedule();
  spec.phases = phases;
  spec.rerun_forward = options_.keep_wave == FEATURES;
  spec.dp = context_->dp_size();
  spec.slots = context_->num_slots();
  spec.zero_stage = options_.layout.zero_stage();
  // Where parameters and gradients are exchanged round by round, a rank that lacks a slot takes part with nothing.
  spec.dp_rank = spec.zero_stage == 1 ? context_->dp_rank() : 0;
  spec.gather = options_.layout.gather();
  const auto taped = std::find(tape_map_.taped.begin(), tape_map_.taped.end(), true);
  spec.first_backward_stage =
      taped == tape_map_.taped.end()
          ? stages_.count()
          : stages_.StageOf(static_cast<int>(taped - tape_map_.taped.begin()));
  // Where only a join trains, the slots of its parameters still end somewhere.
  const auto trains = [](const ParamSpec& param) { return param.trainable; };
  for (const JoinSpec& join : model_->spec.joins) {
    if (std::any_of(join.params.begin(), join.params.end(), trains))
      spec.first_backward_stage = std::min(spec.first_backward_stage, stages_.last());
  }
  for (const BlockSpec& block : model_->spec.blocks) {
    for (const ParamSpec& param : block.params) {
      if (param.tie.empty() || !param.trainable) continue;
      spec.ties.emplace_back(stages_.StageOf(BlockOfParam(model_->spec, param.tie)),
                             stages_.StageOf(BlockOfParam(model_->spec, param.name)));
    }
  }
  return spec;
}

StatusOr<RankProgram> Engine::PlanProgram(const ProgramSpec& spec) const {
  WEFT_ASSIGN_OR_RETURN(std::vector<RankProgram> programs, MakeProgram(spec));
  WEFT_RETURN_IF_ERROR(VerifyProgram(spec, programs));
  return std::move(programs[static_cast<size_t>(stages_.rank)]);
}

void Engine::PlanGroups() {
  first_block_of_group_.assign(store_->groups().size(), stages_.num_blocks);
  for (int b = stages_.num_blocks - 1; b >= 0; --b) {
    if (!stages_.IsOwn(stages_.StageOf(b))) continue;
    for (const int group : store_->GroupsOfOwner(model_->spec.blocks[static_cast<size_t>(b)].name))
      first_block_of_group_[static_cast<size_t>(group)] = b;
  }
}

}  // namespace weft
