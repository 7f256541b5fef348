#include "models/registry.h"

#include "models/clip/clip.h"
#include "models/layers/patches.h"
#include "models/llava/llava.h"
#include "models/roberta/roberta.h"
#include "models/spec/clip_spec.h"
#include "models/spec/llava_spec.h"
#include "models/spec/roberta_spec.h"

namespace weft {
namespace {

StatusOr<PixelNorm> ReadPixelNorm(const AugmentRecipe& augment) {
  PixelNorm norm;
  const auto read = [](const auto& values, const std::string& field, std::array<double, 3>* out) {
    if (values.empty()) return OkStatus();
    if (values.size() != 3)
      return InvalidArgument("data.augment." + field + ": wants 3 values, has " +
                             std::to_string(values.size()));
    for (int c = 0; c < 3; ++c) (*out)[static_cast<size_t>(c)] = values[c];
    return OkStatus();
  };
  WEFT_RETURN_IF_ERROR(read(augment.mean(), "mean", &norm.mean));
  WEFT_RETURN_IF_ERROR(read(augment.std(), "std", &norm.std));
  for (const double std : norm.std) {
    if (std <= 0) return InvalidArgument("data.augment.std: must be positive");
  }
  return norm;
}

StatusOr<std::unique_ptr<Model>> MakeFamily(const Recipe& recipe, const ModelSpec& spec,
                                            ParameterStore* store) {
  WEFT_ASSIGN_OR_RETURN(const PixelNorm norm, ReadPixelNorm(recipe.data().augment()));
  switch (recipe.model().family_case()) {
    case ModelRecipe::kClip: {
      WEFT_ASSIGN_OR_RETURN(const ClipConfig config, ResolveClip(recipe.model().clip()));
      return MakeClip(config, spec, norm, store);
    }
    case ModelRecipe::kRoberta: {
      WEFT_ASSIGN_OR_RETURN(const RobertaConfig config, ResolveRoberta(recipe.model().roberta()));
      return MakeRoberta(config, spec, store);
    }
    case ModelRecipe::kLlava: {
      WEFT_ASSIGN_OR_RETURN(const LlavaConfig config, ResolveLlava(recipe));
      return MakeLlava(config, spec, norm, store);
    }
    case ModelRecipe::FAMILY_NOT_SET:
      break;
  }
  return InvalidArgument("model: no family is set; write e.g. model { clip { ... } }");
}

LossScope ScopeOf(LossMean mean) {
  switch (mean) {
    case GLOBAL_BATCH:
      return LossScope::kGlobal;
    case PER_SLOT:
      return LossScope::kSlot;
    case PER_MICRO_BATCH:
      return LossScope::kMicroBatch;
  }
  return LossScope::kGlobal;
}

}  // namespace

StatusOr<std::unique_ptr<Model>> MakeModel(const Recipe& recipe, const ModelSpec& spec,
                                           ParameterStore* store) {
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, MakeFamily(recipe, spec, store));
  for (Wave& wave : model->objective.waves) {
    for (LossOutput& loss : wave.losses) loss.scope = ScopeOf(recipe.loss_mean());
  }
  return model;
}

}  // namespace weft
