// The flags that say what recipe a run trains: the file, --set, --print-recipe and --check.
//
// Errors: printed; the exit code says what to leave with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

struct RecipeFlags {
  std::vector<std::string> overrides;
  bool print_recipe = false;
  bool check = false;

  void AddTo(FlagParser* flags);
};

struct RecipeOrExit {
  // Set if there is nothing (more) to do.
  std::optional<int> exit_code;
  // Complete and validated.
  Recipe recipe;
};

// Loads, overrides, validates, fits the layout to the model, looks for the data; prints if that is all that was asked
// for.
RecipeOrExit LoadForRun(const std::string& command, const std::string& path,
                        const RecipeFlags& flags);

// "runs/<recipe name>" if `run_dir` is empty.
std::string RunDirOrDefault(const std::string& run_dir, const Recipe& recipe);

}  // namespace weft
