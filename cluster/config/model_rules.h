// The rules of each model family's fields; part of validate.h.
//
// Thread rule: pure function.
#pragma once

#include "cluster/config/recipe.pb.h"
#include "cluster/config/recipe_checker.h"

namespace weft {

void CheckModelRules(const Recipe& recipe, RecipeChecker* check);

}  // namespace weft
