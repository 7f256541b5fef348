// Which layouts a model can run in: every rule that ties ranks, stages and heads together, known before anything starts.
//
// Errors: InvalidArgument. A line for each rule that the layout breaks, with the field, its value and the numbers, and
// then the nearest layouts that work: with as many ranks if there are any, else with fewer.
// Thread rule: pure functions.
#pragma once

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// `spec` is that of recipe.model(). REQUIRES: ValidateRecipe(recipe) is ok.
Status CheckLayoutFits(const Recipe& recipe, const ModelSpec& spec);

// "dp 3 x tp 2", "dp 1": degrees of one are left out.
std::string DegreesText(const Layout& layout);

}  // namespace weft
