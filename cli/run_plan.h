// What a recipe would run, in words: ranks, the batch's way over them, and the stages with their blocks, their part of the
// cost and their parameters.
//
// Thread rule: pure functions.
#pragma once

#include <string>

#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// Lines of text. REQUIRES: CheckLayoutFits(recipe, spec) is ok.
std::string DescribeRun(const Recipe& recipe, ModelSpec spec);

}  // namespace weft
