// The models of `make parity`: small enough to run hundreds of times, with every feature that a layout could get wrong (8
// blocks a tower, 8 heads, 2 kv heads in LLaVA, an odd vocabulary, dropout everywhere), and their synthetic batches.
#pragma once

#include <string>
#include <vector>

#include "cluster/config/recipe.pb.h"
#include "parallel/engine/block.h"

namespace weft::testing {

// "clip", "roberta", "llava": FP64, V = 8, M = 2, 5 steps, AdamW with lr 1e-3 and eps 1e-6.
Recipe ParityRecipe(const std::string& model);

// The micro-batches of these slots, in order; a function of (step, slot, micro-batch). Some rows have padding, some LLaVA
// rows no image, some RoBERTa micro-batches more targets than others.
std::vector<NamedTensors> ParityBatches(const Recipe& recipe, const std::vector<int>& slots,
                                        int64_t step);

}  // namespace weft::testing
