// Everything that can be known to be wrong with a recipe before anything starts.
//
// Errors: InvalidArgument. All violations are in one message, a line each: where the value stands (if known), the
// field, its value, the rule, a remedy.
// Thread rule: pure functions, but for CheckDataFiles, which looks at files.
#pragma once

#include <string>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe_loader.h"

namespace weft {

struct Violation {
  std::string field;
  // "-1", or "" if the field is not set.
  std::string value;
  // "must be above 0; 1e-3 suits small models".
  std::string rule;
};

// Empty if all is well. Defaults are filled in first.
std::vector<Violation> RecipeViolations(const Recipe& recipe);

Status ValidateRecipe(const Recipe& recipe);
// The same, with the file and line of each value.
Status ValidateRecipe(const LoadedRecipe& loaded);

// The files that the recipe reads are there and can be read: shards, vocabulary, checkpoints of init_from.
Status CheckDataFiles(const LoadedRecipe& loaded, FileSystem* fs);

}  // namespace weft
