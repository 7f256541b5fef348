// What a recipe asks of a loader: its data and batches, and of its model what samples and their fields depend on.
//
// Errors: InvalidArgument, naming the recipe's field. Thread rule: pure functions.
#pragma once

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/loader_options.h"

namespace weft {

// Without a consumer's part: slots, steps and fields.
StatusOr<LoaderOptions> LoaderOptionsOf(const Recipe& recipe);

}  // namespace weft
