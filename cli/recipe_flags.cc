#include "cli/recipe_flags.h"

#include <cstdio>

#include "cluster/base/file_system.h"
#include "cluster/config/print_recipe.h"
#include "cluster/config/recipe_hash.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/config/validate.h"

namespace weft {
namespace {

StatusOr<LoadedRecipe> LoadAndValidate(const std::string& path, const RecipeFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(LoadedRecipe loaded,
                        LoadRecipe({.path = path, .overrides = flags.overrides}));
  WEFT_RETURN_IF_ERROR(ValidateRecipe(loaded));
  // Where it is only looked at, its data may be elsewhere.
  if (!flags.print_recipe) WEFT_RETURN_IF_ERROR(CheckDataFiles(loaded, PosixFileSystem()));
  return loaded;
}

}  // namespace

void RecipeFlags::AddTo(FlagParser* flags) {
  flags->Strings("set", &overrides, "one value of the recipe: --set optimizer.lr=3e-4");
  flags->Bool("print-recipe", &print_recipe,
              "prints the recipe with all defaults and where each value comes from");
  flags->Bool("check", &check, "checks the recipe and its data files, starts nothing");
}

RecipeOrExit LoadForRun(const std::string& command, const std::string& path,
                        const RecipeFlags& flags) {
  const StatusOr<LoadedRecipe> loaded = LoadAndValidate(path, flags);
  if (!loaded.ok()) return {.exit_code = ReportError(command, loaded.status())};
  if (flags.print_recipe) {
    std::fputs(PrintRecipe(*loaded).c_str(), stdout);
    return {.exit_code = 0};
  }
  if (flags.check) {
    std::printf("%s is fine (hash %s)\n", path.c_str(),
                RecipeHash(loaded->recipe).substr(0, 12).c_str());
    return {.exit_code = 0};
  }
  return {.exit_code = std::nullopt, .recipe = loaded->recipe};
}

std::string RunDirOrDefault(const std::string& run_dir, const Recipe& recipe) {
  if (!run_dir.empty()) return run_dir;
  return JoinPath("runs", recipe.name().empty() ? "unnamed" : recipe.name());
}

}  // namespace weft
