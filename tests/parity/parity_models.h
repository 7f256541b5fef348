// The models of `make parity`: small enough to run hundreds of times, with every feature that a layout could get wrong (8
// blocks a tower, 8 heads, 2 kv heads in LLaVA, an odd vocabulary, dropout everywhere).
#pragma once

#include <string>

#include "cluster/config/recipe.pb.h"

namespace weft::testing {

// "clip", "roberta", "llava", "llava-packed": FP64, V = 8, M = 2, 5 steps, AdamW with lr 1e-3 and eps 1e-6.
Recipe ParityRecipe(const std::string& model);

}  // namespace weft::testing
