// The learning rate of a step: linear warm-up lr * (step + 1) / warmup_steps, then half a cosine from lr to final_lr that
// ends at the recipe's last step (open_clip's schedule). Pure function of the step.
#pragma once

#include <cstdint>

#include "cluster/config/recipe.pb.h"

namespace weft {

// `step` counts from 0.
double LearningRate(const OptimizerRecipe& optimizer, const ScheduleRecipe& schedule,
                    int64_t total_steps, int64_t step);

}  // namespace weft
