// The rules of `data`: shards, mixes, order, balance, augmentation, masks; part of validate.h.
//
// Thread rule: pure function.
#pragma once

#include "cluster/config/recipe.pb.h"
#include "cluster/config/recipe_checker.h"

namespace weft {

void CheckDataRules(const Recipe& recipe, RecipeChecker* check);

}  // namespace weft
