#include "coordinator/coordinator_options.h"

#include "cluster/base/clock.h"

namespace weft {

CoordinatorOptions MakeCoordinatorOptions(const Recipe& recipe, const std::string& run_dir) {
  CoordinatorOptions options;
  options.recipe = recipe;
  options.run_dir = run_dir;
  options.membership.world_size =
      recipe.layout().dp() * recipe.layout().tp() * recipe.layout().pp();
  options.membership.max_fruitless_restarts = recipe.run().max_fruitless_restarts();
  options.detector.floor = FromSeconds(recipe.run().hang_floor_s());
  return options;
}

}  // namespace weft
