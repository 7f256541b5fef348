#include "parallel/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace weft {

double LearningRate(const OptimizerRecipe& optimizer, const ScheduleRecipe& schedule,
                    int64_t total_steps, int64_t step) {
  const int64_t warmup = schedule.warmup_steps();
  if (step < warmup)
    return optimizer.lr() * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const int64_t length = std::max<int64_t>(1, total_steps - warmup);
  const double progress =
      std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(length));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return schedule.final_lr() + (optimizer.lr() - schedule.final_lr()) * cosine;
}

}  // namespace weft
