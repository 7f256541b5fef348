#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "tests/coordinator/simulation.h"

namespace weft::testing {
namespace {

TEST(SimulationTest, SurvivesEveryStorm) {
  const char* wanted = std::getenv("WEFT_SIMULATION_SEEDS");
  const int seeds = wanted != nullptr ? std::atoi(wanted) : 300;
  int generations = 0;
  int commits = 0;
  int coordinators = 0;
  std::map<int, int> ends;
  for (int seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(static_cast<uint64_t>(seed));
    simulation.Run();
    if (HasFailure()) return;
    generations += simulation.num_generations();
    commits += simulation.num_commits();
    coordinators += simulation.num_coordinators();
    ++ends[simulation.exit_code()];
  }
  std::printf(
      "%d seeds: %d generations, %d commits, %d coordinators; complete %d, given up %d, failed "
      "%d\n",
      seeds, generations, commits, coordinators, ends[kExitDone], ends[kExitDoNotRequeue],
      ends[kExitFailed]);
  EXPECT_GT(ends[kExitDone], seeds / 2) << "the storm is too strong to say much";
}

}  // namespace
}  // namespace weft::testing
