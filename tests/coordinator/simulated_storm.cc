// The faults of a simulation, each by chance.
#include <iterator>
#include <random>

#include "coordinator/membership_events.h"
#include "tests/coordinator/simulation.h"

namespace weft::testing {

void Simulation::Storm() {
  if (Chance(0.15)) KillWorker();
  if (Chance(0.05)) FailWorker();
  if (Chance(0.05)) FreezeWorker();
  if (Chance(0.05)) LoseAgent();
  if (Chance(0.03)) agents_[static_cast<size_t>(Pick(2))].silent = true;
  if (Chance(0.10))
    fs_.FailCall(1 + Pick(40), Pick(4) == 0 ? Unavailable("I/O error") : ResourceExhausted("full"));
  if (Chance(0.05)) KillCoordinator();
}

SimWorker* Simulation::AnyWorker(SimAgent** owner) {
  SimAgent& agent = agents_[static_cast<size_t>(Pick(2))];
  if (agent.workers.empty() || agent.silent) return nullptr;
  *owner = &agent;
  auto it = agent.workers.begin();
  std::advance(it, Pick(static_cast<int>(agent.workers.size())));
  return &it->second;
}

void Simulation::KillWorker() {
  SimAgent* agent = nullptr;
  const SimWorker* worker = AnyWorker(&agent);
  if (worker == nullptr || worker->finished) return;
  const Token token = worker->token;
  const int rank = worker->rank;
  agent->workers.erase(rank);
  Send([this, token, rank] { OnWorkerExited(now_, token, rank, 0, 9, &state_); });
  for (int peer = 0; peer < kWorldSize; ++peer) {
    if (peer == rank || FindWorker(token, peer) == nullptr) continue;
    Send([this, token, peer] {
      OnWorkerFailed(now_, token, peer, StatusCode::kUnavailable, "peer lost", &state_);
    });
  }
}

void Simulation::FailWorker() {
  SimAgent* agent = nullptr;
  const SimWorker* worker = AnyWorker(&agent);
  if (worker == nullptr || worker->finished) return;
  const Token token = worker->token;
  const int rank = worker->rank;
  Send([this, token, rank] {
    OnWorkerFailed(now_, token, rank, StatusCode::kInternal, "nan", &state_);
  });
}

void Simulation::FreezeWorker() {
  SimAgent* agent = nullptr;
  SimWorker* worker = AnyWorker(&agent);
  if (worker != nullptr) worker->frozen = true;
}

void Simulation::LoseAgent() {
  SimAgent& agent = agents_[static_cast<size_t>(Pick(2))];
  if (agent.id < 0) return;
  OnAgentLost(now_, agent.id, "closed its connection", &state_);
  agent.id = -1;
  // Its workers may live on for a while, with a token that will be stale.
  agent.back_at = now_ + FromSeconds(Pick(8));
}

void Simulation::KillCoordinator() {
  const int mode = Pick(3);
  fs_.Crash(mode == 0   ? CrashMode::kProcessDied
            : mode == 1 ? CrashMode::kPowerCut
                        : CrashMode::kRandomRemains,
            random_());
  for (SimAgent& agent : agents_) {
    agent.id = -1;
    agent.back_at = now_ + FromSeconds(Pick(3));
  }
  StartCoordinator();
}

}  // namespace weft::testing
