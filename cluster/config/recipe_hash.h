// What makes two recipes the same run.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <vector>

#include "cluster/config/recipe.pb.h"

namespace weft {

// SHA-256 in hex over CanonicalText.
std::string RecipeHash(const Recipe& recipe);

// The text that the hash covers, a line "path: value" for each value, by field number. Left out: fields marked
// `outside_hash`, and values equal to their default, so that a field added to the format with a default that means
// "as before" changes no hash.
std::string CanonicalText(const Recipe& recipe);

enum class DiffScope {
  // What the hash covers.
  kHashed,
  kAll,
};

// "optimizer.lr: 0.001 -> 0.0003" for each value in which `a` and `b` differ, defaults filled in; "(unset)" stands for a
// value that one of them lacks.
std::vector<std::string> DiffRecipes(const Recipe& a, const Recipe& b,
                                     DiffScope scope = DiffScope::kHashed);

}  // namespace weft
