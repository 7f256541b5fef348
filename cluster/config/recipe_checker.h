// Collects what is wrong with a recipe while its rules are gone through; knows each value of the recipe as text.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/config/recipe.pb.h"
#include "cluster/config/recipe_tree.h"
#include "cluster/config/validate.h"

namespace weft {

constexpr int64_t kMaxCount = 1'000'000'000;

class RecipeChecker {
 public:
  explicit RecipeChecker(const Recipe& recipe) {
    for (RecipeLeaf& leaf : RecipeLeaves(recipe)) values_[leaf.path] = std::move(leaf.text);
  }

  bool Has(const std::string& field) const { return values_.count(field) > 0; }

  // `field` must be set; false (and a violation) if not.
  bool Require(const std::string& field, const std::string& remedy) {
    const bool has = Has(field);
    if (!has) violations_.push_back({field, "", "is not set; " + remedy});
    return has;
  }

  void Rule(bool holds, const std::string& field, const std::string& rule) {
    if (holds) return;
    const auto found = values_.find(field);
    violations_.push_back({field, found == values_.end() ? "" : found->second, rule});
  }

  // A required integer in [min, max].
  void Count(const std::string& field, bool is_set, int64_t value, int64_t min, int64_t max,
             const std::string& remedy) {
    if (!is_set) {
      Require(field, remedy);
      return;
    }
    Rule(value >= min && value <= max, field,
         "must be from " + std::to_string(min) + " to " + std::to_string(max) +
             (remedy.empty() ? "" : "; " + remedy));
  }

  // Not a number, or infinite, is no value for any field.
  void AllFinite() {
    for (const auto& [field, text] : values_) {
      const bool finite = text != "nan" && text != "-nan" && text != "inf" && text != "-inf";
      Rule(finite, field, "must be a finite number");
    }
  }

  std::vector<Violation> Take() && { return std::move(violations_); }

 private:
  std::map<std::string, std::string> values_;
  std::vector<Violation> violations_;
};

// What may be a file's name.
inline bool IsPlainName(const std::string& name) {
  const std::string allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         name.find_first_not_of(allowed) == std::string::npos;
}

// Samples of a step; empty if the batch has no valid size.
inline std::optional<int64_t> GlobalBatch(const BatchRecipe& batch) {
  int64_t product = 1;
  for (const int64_t factor : {batch.slots(), batch.micro_batches(), batch.micro_batch_size()}) {
    if (factor < 1 || factor > kMaxCount / product) return std::nullopt;
    product *= factor;
  }
  return product;
}

}  // namespace weft
