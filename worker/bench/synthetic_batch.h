// Micro-batches of random pixels and tokens in the shapes of a recipe's model, keyed by (step, slot, micro-batch): for
// benchmarks and parity tests, where the layout must not show in the data. Some rows have padding, some LLaVA rows no image,
// some RoBERTa micro-batches more targets than others.
//
// Thread rule: pure functions.
#pragma once

#include <vector>

#include "cluster/config/recipe.pb.h"
#include "parallel/engine/block.h"

namespace weft {

// Those of these slots, in order, the M micro-batches of each.
std::vector<NamedTensors> SyntheticBatches(const Recipe& recipe, const std::vector<int>& slots,
                                           int64_t step);

}  // namespace weft
