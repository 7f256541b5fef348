#include "tests/coordinator/simulation.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace weft::testing {

Simulation::Simulation(uint64_t seed) : random_(seed), agents_(2) {
  options_.world_size = kWorldSize;
  options_.lease = FromSeconds(2);
  options_.startup = FromSeconds(10);
  options_.drain = FromSeconds(4);
  options_.agent_wait = FromSeconds(60);
  options_.max_fruitless_restarts = 6;
  detector_options_.floor = FromSeconds(3);
  detector_options_.first_steps = detector_options_.starting = detector_options_.loading =
      detector_options_.saving = FromSeconds(6);
  EXPECT_TRUE(fs_.MakeDirs("run").ok() && fs_.SyncDir(".").ok());
  StartCoordinator();
}

void Simulation::Run() {
  while (!over_ && ToSeconds(now_ - begin_) < kPatience && !::testing::Test::HasFailure()) {
    now_ += FromSeconds(kTick);
    if (ToSeconds(now_ - begin_) < kStorm) Storm();
    Deliver();
    MoveAgents();
    MoveWorkers();
    Tick();
  }
  EXPECT_TRUE(over_) << "the run never ends; " << MembershipPhaseName(state_.phase);
  if (std::getenv("WEFT_SIMULATION_SEEDS") != nullptr)
    std::printf("exit %d: %s\n", exit_code_, exit_reason_.c_str());
  if (over_) {
    EXPECT_TRUE(exit_code_ == kExitDone || exit_code_ == kExitDoNotRequeue ||
                exit_code_ == kExitFailed)
        << exit_code_ << exit_reason_;
  }
}

bool Simulation::Chance(double per_second) {
  return std::uniform_real_distribution<double>(0, 1)(random_) < per_second * kTick;
}

// An event that reaches the coordinator after a random time; lost if the coordinator dies before.
void Simulation::Send(std::function<void()> event) {
  const TimePoint at = now_ + FromSeconds(0.3 * static_cast<double>(Pick(100)) / 100);
  mail_.emplace(at, std::move(event));
}

void Simulation::Deliver() {
  while (!mail_.empty() && mail_.begin()->first <= now_) {
    const auto event = std::move(mail_.begin()->second);
    mail_.erase(mail_.begin());
    event();
  }
}

}  // namespace weft::testing
