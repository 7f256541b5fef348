// From a recipe to a model that the engine can run.
//
// Errors: InvalidArgument, naming the recipe's field. Thread rule: one thread.
#pragma once

#include <memory>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// `spec` came from MakeModelSpec(recipe) (and ApplyTrainable), `store` from spec.Params(); it must outlive the model.
StatusOr<std::unique_ptr<Model>> MakeModel(const Recipe& recipe, const ModelSpec& spec,
                                           ParameterStore* store);

}  // namespace weft
