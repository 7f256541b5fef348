// The learning rate of a step: linear warm-up lr * (step + 1) / warmup_steps, then the recipe's decay: half a cosine from
// lr to final_lr that ends behind the last step (open_clip), a straight line that ends in it (fairseq), or none. Pure
// function of the step.
#pragma once

#include <cstdint>

#include "cluster/config/recipe.pb.h"

namespace weft {

// `step` counts from 0.
double LearningRate(const OptimizerRecipe& optimizer, const ScheduleRecipe& schedule,
                    int64_t total_steps, int64_t step);

}  // namespace weft
