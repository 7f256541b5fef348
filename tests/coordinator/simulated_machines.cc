// Agents and workers of a simulation: they come, step together, save and finish.
#include "coordinator/membership_events.h"
#include "tests/coordinator/simulation.h"
#include "tests/support/checkpoint_world.h"

namespace weft::testing {

void Simulation::MoveAgents() {
  for (SimAgent& agent : agents_) {
    if (agent.id < 0 && now_ >= agent.back_at) {
      // A new start: nothing of the old one is left.
      agent.workers.clear();
      agent.dead = agent.silent = false;
      agent.id = OnAgentHello(now_, "host", 1, "inc", agent.capacity, &state_);
    } else if (agent.id >= 0 && state_.agents.count(agent.id) == 0) {
      // The coordinator has given it up: it will find its connection closed.
      agent.id = -1;
      agent.back_at = now_ + FromSeconds(1 + Pick(5));
    } else if (!agent.silent) {
      OnAgentHeard(now_, agent.id, &state_);
    }
  }
}

void Simulation::MoveWorkers() {
  // A rank steps only if all others are there: the step is one collective.
  int alive = 0;
  for (SimAgent& agent : agents_) {
    for (auto& [rank, worker] : agent.workers) {
      if (active_ && worker.token == *active_ && worker.started && !worker.frozen) ++alive;
    }
  }
  for (SimAgent& agent : agents_) {
    if (agent.silent) continue;
    for (auto& [rank, worker] : agent.workers) {
      if (!worker.frozen) MoveWorker(&worker, alive == kWorldSize);
    }
  }
}

void Simulation::MoveWorker(SimWorker* worker, bool all_there) {
  const Token token = worker->token;
  const int rank = worker->rank;
  if (worker->started && !worker->saving && !worker->finished && all_there &&
      now_ >= worker->next) {
    if (worker->step >= kSteps) {
      worker->finished = true;
      Send([this, token, rank] { OnWorkerFinished(token, rank, kSteps, true, &state_); });
    } else {
      ++worker->step;
      worker->next = now_ + FromSeconds(0.2);
      if (worker->step % kSaveEvery == 0) RequestSave(worker);
    }
  }
  const ProgressReport report = {worker->finished  ? WorkerPhase::kDone
                                 : worker->saving  ? WorkerPhase::kSaving
                                 : worker->started ? WorkerPhase::kTraining
                                                   : WorkerPhase::kStarting,
                                 worker->step, static_cast<uint64_t>(worker->step), ""};
  const bool running = worker->started;
  Send([this, token, rank, report, running] {
    if (!active_ || token != *active_) return;
    detector_.OnProgress(now_, rank, report);
    OnWorkerProgress(token, rank, report.step, running, &state_);
  });
}

void Simulation::RequestSave(SimWorker* worker) {
  worker->saving = true;
  const Token token = worker->token;
  const int rank = worker->rank;
  const int64_t step = worker->step;
  Send([this, token, rank, step] {
    Handle(committer_->OnSaveRequest(now_, token, rank, step, TinyState(step).SerializeAsString()));
  });
}

}  // namespace weft::testing
