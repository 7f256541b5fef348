#include "parallel/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace weft {

double LearningRate(const OptimizerRecipe& optimizer, const ScheduleRecipe& schedule,
                    int64_t total_steps, int64_t step) {
  const double peak = optimizer.lr();
  const double final_lr = schedule.final_lr();
  const int64_t warmup = schedule.warmup_steps();
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const auto length = static_cast<double>(std::max<int64_t>(1, total_steps - warmup));
  const auto progress = [&](int64_t steps) {
    return std::min(1.0, static_cast<double>(steps) / length);
  };
  switch (schedule.decay()) {
    case COSINE: {
      const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress(step - warmup)));
      return final_lr + (peak - final_lr) * cosine;
    }
    case LINEAR:
      return final_lr + (peak - final_lr) * (1 - progress(step + 1 - warmup));
    case CONSTANT:
      return peak;
  }
  return peak;
}

}  // namespace weft
