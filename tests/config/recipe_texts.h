// Recipes for the tests of cluster/config.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cluster/config/recipe_loader.h"

namespace weft::testing {

// Valid, with as few fields as that takes.
inline const char* SmallRecipe() {
  return R"(name: "small"
steps: 10
model {
  clip {
    embed_dim: 8 image_size: 32 patch_size: 8
    vision_width: 64 vision_layers: 1
    text_width: 64 text_layers: 1 text_heads: 2
  }
}
batch { slots: 2 micro_batch_size: 4 }
data {
  train_shards: ["a.tar", "b.tar"]
  train_shards: "c-{0..1}.tar"
  vocabulary: "v.txt"
}
optimizer {
  lr: 1e-3
}
)";
}

inline LoadedRecipe LoadSmall(const std::vector<std::string>& overrides = {}) {
  auto loaded = ParseRecipe(SmallRecipe(), "small.textproto", overrides);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return loaded.ok() ? *loaded : LoadedRecipe{};
}

}  // namespace weft::testing
