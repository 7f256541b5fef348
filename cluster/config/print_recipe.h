// A recipe for people, in text format that parses again.
//
// Thread rule: pure functions.
#pragma once

#include <string>

#include "cluster/config/recipe_loader.h"

namespace weft {

// All values, defaults too, each with a comment that says where it comes from:
//   lr: 0.001     # recipes/clip/demo.textproto:31
//   beta1: 0.9    # default
std::string PrintRecipe(const LoadedRecipe& loaded);

// The same without comments.
std::string RecipeText(const Recipe& recipe);

}  // namespace weft
