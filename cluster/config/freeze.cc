#include "cluster/config/freeze.h"

#include "cluster/base/hash.h"
#include "cluster/config/print_recipe.h"
#include "cluster/config/recipe_loader.h"

namespace weft {
namespace {

constexpr std::string_view kHeader =
    "# The recipe of this run, frozen at its start. Do not edit: begin another run instead.\n"
    "# sha256 of all below: ";

}  // namespace

std::string FrozenText(const Recipe& recipe) {
  const std::string body = RecipeText(recipe);
  return std::string(kHeader) + Sha256Hex(body) + "\n" + body;
}

StatusOr<Recipe> ParseFrozen(std::string_view text, const std::string& source) {
  const auto damaged = [&source](const std::string& why) {
    return Corruption(source + ": " + why +
                      "; the frozen recipe of a run must stay as it was written. Restore it, or "
                      "begin a new run directory");
  };
  if (!text.starts_with(kHeader)) return damaged("its header is missing or changed");
  const std::string_view rest = text.substr(kHeader.size());
  const size_t newline = rest.find('\n');
  if (newline == std::string_view::npos) return damaged("it ends inside its header");
  const std::string_view body = rest.substr(newline + 1);
  if (rest.substr(0, newline) != Sha256Hex(body)) return damaged("its checksum does not match");
  auto loaded = ParseRecipe(body, source, {});
  if (!loaded.ok()) {
    return FailedPrecondition(loaded.status().message() +
                              " (written by a version of Weft with other fields?)");
  }
  return std::move(loaded->recipe);
}

Status WriteFrozenRecipe(FileSystem* fs, const std::string& path, const Recipe& recipe) {
  return WriteFileDurably(fs, path, FrozenText(recipe));
}

StatusOr<Recipe> ReadFrozenRecipe(FileSystem* fs, const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, fs->ReadFile(path));
  return ParseFrozen(text, path);
}

}  // namespace weft
