#include "cli/recipe_flags.h"

#include <cstdio>
#include <sstream>

#include "cli/run_plan.h"
#include "cluster/base/file_system.h"
#include "cluster/config/print_recipe.h"
#include "cluster/config/recipe_hash.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/config/validate.h"
#include "cluster/topology/mesh.h"
#include "models/spec/layout_rules.h"
#include "models/spec/model_spec.h"

namespace weft {
namespace {

struct CheckedRecipe {
  LoadedRecipe loaded;
  ModelSpec spec;
};

// Puts "FILE:LINE: " or "--set: " before each line that begins with a field.
Status WithOrigins(const Status& status, const Provenance& provenance) {
  std::string text;
  std::istringstream lines(status.message());
  for (std::string line; std::getline(lines, line);) {
    const std::string field = line.substr(0, line.find_first_of(" ="));
    auto origin = provenance.find(field);
    if (origin == provenance.end()) origin = provenance.find(field + "[0]");
    if (!text.empty()) text += "\n";
    text += (origin == provenance.end() ? "" : origin->second + ": ") + line;
  }
  return {status.code(), text};
}

StatusOr<CheckedRecipe> LoadAndCheck(const std::string& path, const RecipeFlags& flags) {
  CheckedRecipe checked;
  WEFT_ASSIGN_OR_RETURN(checked.loaded, LoadRecipe({.path = path, .overrides = flags.overrides}));
  const Recipe& recipe = checked.loaded.recipe;
  WEFT_RETURN_IF_ERROR(ValidateRecipe(checked.loaded));
  WEFT_ASSIGN_OR_RETURN(checked.spec, MakeModelSpec(recipe));
  WEFT_RETURN_IF_ERROR(
      ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &checked.spec));
  // Where it is only looked at, it may be for another machine.
  if (flags.print_recipe) return checked;
  const Status fits = CheckLayoutFits(recipe, checked.spec);
  if (!fits.ok()) return WithOrigins(fits, checked.loaded.provenance);
  WEFT_RETURN_IF_ERROR(CheckLayout(recipe));
  WEFT_RETURN_IF_ERROR(CheckDataFiles(checked.loaded, PosixFileSystem()));
  return checked;
}

}  // namespace

void RecipeFlags::AddTo(FlagParser* flags) {
  flags->Strings("set", &overrides, "one value of the recipe: --set optimizer.lr=3e-4");
  flags->Bool("print-recipe", &print_recipe,
              "prints the recipe with all defaults and where each value comes from");
  flags->Bool(
      "check", &check,
      "checks the recipe, its layout and its data files, says what would run, starts nothing");
}

RecipeOrExit LoadForRun(const std::string& command, const std::string& path,
                        const RecipeFlags& flags) {
  const StatusOr<CheckedRecipe> checked = LoadAndCheck(path, flags);
  if (!checked.ok()) return {.exit_code = ReportError(command, checked.status())};
  const Recipe& recipe = checked->loaded.recipe;
  if (flags.print_recipe) {
    std::fputs(PrintRecipe(checked->loaded).c_str(), stdout);
    return {.exit_code = 0};
  }
  if (flags.check) {
    std::printf("%s is fine (hash %s)\n%s", path.c_str(), RecipeHash(recipe).substr(0, 12).c_str(),
                DescribeRun(recipe, checked->spec).c_str());
    return {.exit_code = 0};
  }
  return {.exit_code = std::nullopt, .recipe = recipe};
}

std::string RunDirOrDefault(const std::string& run_dir, const Recipe& recipe) {
  if (!run_dir.empty()) return run_dir;
  return JoinPath("runs", recipe.name().empty() ? "unnamed" : recipe.name());
}

}  // namespace weft
