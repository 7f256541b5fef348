#include "models/spec/model_spec.h"

#include "cluster/base/text.h"
#include "models/spec/clip_spec.h"
#include "models/spec/llava_spec.h"
#include "models/spec/roberta_spec.h"

namespace weft {

std::vector<ParamSpec> ModelSpec::Params() const {
  std::vector<ParamSpec> all;
  for (const BlockSpec& block : blocks)
    all.insert(all.end(), block.params.begin(), block.params.end());
  for (const JoinSpec& join : joins) all.insert(all.end(), join.params.begin(), join.params.end());
  return all;
}

int64_t ModelSpec::NumParameters() const { return NumParameters(""); }

int64_t ModelSpec::NumParameters(const std::string& prefix) const {
  int64_t total = 0;
  for (const ParamSpec& param : Params()) {
    if (param.tie.empty() && param.name.starts_with(prefix)) total += param.NumElements();
  }
  return total;
}

double ModelSpec::ForwardFlopsPerSample() const {
  double total = 0;
  for (const BlockSpec& block : blocks) total += block.forward_flops;
  return total;
}

StatusOr<ModelSpec> MakeModelSpec(const Recipe& recipe) {
  const ModelRecipe& model = recipe.model();
  switch (model.family_case()) {
    case ModelRecipe::kClip: {
      WEFT_ASSIGN_OR_RETURN(const ClipConfig config, ResolveClip(model.clip()));
      return MakeClipSpec(config);
    }
    case ModelRecipe::kRoberta: {
      WEFT_ASSIGN_OR_RETURN(const RobertaConfig config, ResolveRoberta(model.roberta()));
      return MakeRobertaSpec(config);
    }
    case ModelRecipe::kLlava: {
      WEFT_ASSIGN_OR_RETURN(const LlavaConfig config, ResolveLlava(recipe));
      return MakeLlavaSpec(config);
    }
    case ModelRecipe::FAMILY_NOT_SET:
      break;
  }
  return InvalidArgument("model: no family is set; write e.g. model { clip { ... } }");
}

Status ApplyTrainable(const std::vector<std::string>& patterns, ModelSpec* spec) {
  if (patterns.empty()) return OkStatus();
  std::vector<bool> used(patterns.size(), false);
  const auto apply = [&](std::vector<ParamSpec>& params) {
    for (ParamSpec& param : params) {
      bool matched = false;
      for (size_t i = 0; i < patterns.size(); ++i) {
        if (!GlobMatch(patterns[i], param.tie.empty() ? param.name : param.tie)) continue;
        matched = true;
        used[i] = true;
      }
      param.trainable = param.trainable && matched;
    }
  };
  for (BlockSpec& block : spec->blocks) apply(block.params);
  for (JoinSpec& join : spec->joins) apply(join.params);
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (used[i]) continue;
    std::vector<std::string> names;
    for (const ParamSpec& param : spec->Params()) {
      if (param.tie.empty()) names.push_back(param.name);
    }
    return InvalidArgument("trainable: no parameter matches '" + patterns[i] +
                           "'; the nearest name is '" + NearestName(patterns[i], names) + "'");
  }
  return OkStatus();
}

}  // namespace weft
