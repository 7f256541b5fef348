// From a recipe file and the command line to a complete recipe: parse, apply overrides, fill in the defaults. Whether
// the values make sense together is another question (validate.h).
//
// Errors: InvalidArgument, with "FILE:LINE:COLUMN: FIELD: what is wrong, the nearest valid name"; for an unreadable or
// missing file too.
// Thread rule: pure functions.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

// Field path ("data.train_shards[0]") -> where its value comes from: "recipes/clip/demo.textproto:12" or "--set". A
// path that is not here has its default.
using Provenance = std::map<std::string, std::string>;

struct LoadedRecipe {
  // With every default written out (recipe_tree.h, WithDefaults).
  Recipe recipe;
  Provenance provenance;
};

struct LoadOptions {
  std::string path;
  // What stood behind each --set, in order; later ones win.
  std::vector<std::string> overrides;
};

StatusOr<LoadedRecipe> LoadRecipe(const LoadOptions& options);

// The same for a text in memory; messages call it `source`.
StatusOr<LoadedRecipe> ParseRecipe(std::string_view text, const std::string& source,
                                   const std::vector<std::string>& overrides);

}  // namespace weft
