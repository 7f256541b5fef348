#include "cluster/config/recipe_hash.h"

#include <map>

#include "cluster/base/hash.h"
#include "cluster/config/recipe_tree.h"

namespace weft {

std::string CanonicalText(const Recipe& recipe) {
  std::string text = "weft recipe 1\n";
  for (const RecipeLeaf& leaf : RecipeLeaves(WithDefaults(recipe))) {
    if (!leaf.outside_hash && !leaf.is_default) text += leaf.path + ": " + leaf.text + "\n";
  }
  return text;
}

std::string RecipeHash(const Recipe& recipe) { return Sha256Hex(CanonicalText(recipe)); }

std::vector<std::string> DiffRecipes(const Recipe& a, const Recipe& b, DiffScope scope) {
  struct Pair {
    std::string a = "(unset)";
    std::string b = "(unset)";
  };
  std::vector<std::string> order;
  std::map<std::string, Pair> pairs;
  const auto collect = [&](const Recipe& recipe, std::string Pair::*side) {
    for (const RecipeLeaf& leaf : RecipeLeaves(WithDefaults(recipe))) {
      if (scope == DiffScope::kHashed && leaf.outside_hash) continue;
      const auto [entry, is_new] = pairs.try_emplace(leaf.path);
      if (is_new) order.push_back(leaf.path);
      entry->second.*side = leaf.text;
    }
  };
  collect(a, &Pair::a);
  collect(b, &Pair::b);
  std::vector<std::string> lines;
  for (const std::string& path : order) {
    const Pair& pair = pairs[path];
    if (pair.a != pair.b) lines.push_back(path + ": " + pair.a + " -> " + pair.b);
  }
  return lines;
}

}  // namespace weft
