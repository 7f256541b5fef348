#include "coordinator/membership.h"

#include <iterator>
#include <utility>

#include "cluster/base/text.h"
#include "coordinator/membership_events.h"

namespace weft {
namespace {

using Kind = MembershipActionKind;
using Phase = MembershipPhase;

int Capacity(const MembershipState& state) {
  int capacity = 0;
  for (const auto& [id, agent] : state.agents) capacity += agent.capacity;
  return capacity;
}

template <typename Predicate>
int CountWorkers(const MembershipState& state, Predicate predicate) {
  int count = 0;
  for (const WorkerState& worker : state.workers) count += predicate(worker) ? 1 : 0;
  return count;
}

// ---- decisions; each works on decision->next

void EnterPhase(TimePoint now, Phase phase, MembershipDecision* decision) {
  decision->next.phase = phase;
  decision->next.phase_since = now;
  decision->changed = true;
}

void Shutdown(TimePoint now, int exit_code, const std::string& reason,
              MembershipDecision* decision) {
  decision->next.exit_code = exit_code;
  decision->next.exit_reason = reason;
  decision->reason = reason;
  MembershipAction action;
  action.kind = Kind::kShutdown;
  action.exit_code = exit_code;
  action.reason = reason;
  decision->actions.push_back(std::move(action));
  EnterPhase(now, Phase::kOver, decision);
}

// Ends the generation: no commit from here on, and every worker goes.
void Drain(TimePoint now, double grace_s, bool failure, const std::string& reason,
           MembershipDecision* decision) {
  MembershipAction end;
  end.kind = Kind::kEndGeneration;
  end.failure = failure;
  end.reason = reason;
  decision->actions.push_back(std::move(end));
  for (auto& [id, agent] : decision->next.agents) {
    std::vector<int> ranks = RanksOf(decision->next, id);
    if (ranks.empty()) continue;
    agent.draining = true;
    MembershipAction kill;
    kill.kind = Kind::kKillWorkers;
    kill.agent = id;
    kill.ranks = std::move(ranks);
    kill.grace_s = grace_s;
    kill.reason = reason;
    decision->actions.push_back(std::move(kill));
  }
  decision->reason = reason;
  EnterPhase(now, Phase::kDraining, decision);
}

void SetExit(int exit_code, const std::string& reason, MembershipState* state) {
  state->exit_code = exit_code;
  state->exit_reason = reason;
}

// What a failed generation means for the run.
void EndGeneration(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  const EndCause& cause = *next.end_cause;
  // OnCommit has reset the count if this generation got anywhere.
  if (!next.committed_in_generation && ++next.fruitless == 1)
    next.first_fruitless_cause = cause.verdict;
  if (cause.kind == EndKind::kNoRestart) {
    SetExit(kExitFailed, cause.verdict, &next);
  } else if (next.stop_requested) {
    SetExit(kExitStoppedEarly, "stopped (" + next.stop_reason + ") while " + cause.verdict, &next);
  } else if (next.fruitless >= options.max_fruitless_restarts) {
    SetExit(kExitDoNotRequeue,
            std::to_string(next.fruitless) +
                " generations in a row ended without a new checkpoint; " +
                "the first cause: " + next.first_fruitless_cause,
            &next);
  }
  Drain(now, /*grace_s=*/0, /*failure=*/true, cause.verdict, decision);
}

void StartGeneration(TimePoint now, const MembershipOptions& options,
                     MembershipDecision* decision) {
  MembershipState& next = decision->next;
  const std::vector<int> placement = PlaceRanks(next.agents, options.world_size);
  ++next.token.generation;
  next.workers.assign(static_cast<size_t>(options.world_size), WorkerState{});
  for (size_t rank = 0; rank < placement.size(); ++rank) next.workers[rank].agent = placement[rank];
  next.end_cause.reset();
  next.committed_in_generation = false;
  next.stop_sent = false;

  decision->reason = "generation " + std::to_string(next.token.generation) + ": " +
                     std::to_string(options.world_size) + " ranks on " +
                     std::to_string(next.agents.size()) + " agent(s)";
  MembershipAction activate;
  activate.kind = Kind::kActivate;
  activate.reason = decision->reason;
  decision->actions.push_back(activate);
  for (const auto& [id, agent] : next.agents) {
    MembershipAction spawn;
    spawn.kind = Kind::kSpawn;
    spawn.agent = id;
    spawn.ranks = RanksOf(next, id);
    if (!spawn.ranks.empty()) decision->actions.push_back(std::move(spawn));
  }
  EnterPhase(now, Phase::kSpawning, decision);
}

void DecideWaiting(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  const MembershipState& next = decision->next;
  if (next.stop_requested) {
    Shutdown(now, kExitStoppedEarly,
             "stopped (" + next.stop_reason + ") before the workers were started", decision);
    return;
  }
  const int capacity = Capacity(next);
  if (capacity >= options.world_size) {
    StartGeneration(now, options, decision);
    return;
  }
  decision->reason = "waiting for agents: room for " + std::to_string(capacity) + " of " +
                     std::to_string(options.world_size) + " ranks";
  if (now - next.phase_since > options.agent_wait) {
    std::string reason = "no agents with room for " + std::to_string(options.world_size) +
                         " ranks came within " + HumanSeconds(ToSeconds(options.agent_wait)) +
                         " (" + std::to_string(capacity) + " are there)";
    if (next.end_cause) reason += " after " + next.end_cause->verdict;
    Shutdown(now, kExitFailed, reason, decision);
  }
}

std::vector<int> RanksWithout(const MembershipState& state, bool WorkerState::*flag) {
  std::vector<int> ranks;
  for (size_t rank = 0; rank < state.workers.size(); ++rank) {
    if (!(state.workers[rank].*flag)) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

void DecideSpawning(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  const std::vector<int> missing = RanksWithout(next, &WorkerState::hello);
  if (missing.empty()) {
    MembershipAction start;
    start.kind = Kind::kStart;
    decision->actions.push_back(std::move(start));
    decision->reason = "all workers are there";
    EnterPhase(now, Phase::kStarting, decision);
    return;
  }
  decision->reason = "waiting for " + RankList(missing) + " to say hello";
  if (now - next.phase_since <= options.startup) return;
  OfferCause({EndKind::kStartup, missing.front(), 0, now,
              RankList(missing) + " did not say hello within " +
                  HumanSeconds(ToSeconds(options.startup)) + " of being started"},
             &next);
  EndGeneration(now, options, decision);
}

// All workers have finished: they leave by themselves, then the run ends.
void DecideFinished(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  const int complete = CountWorkers(next, [](const WorkerState& w) { return w.complete; });
  if (complete == static_cast<int>(next.workers.size())) {
    SetExit(kExitDone, "the run is complete", &next);
  } else {
    SetExit(kExitStoppedEarly,
            "stopped at step " + std::to_string(next.workers.front().step) +
                (next.stop_reason.empty() ? "" : " (" + next.stop_reason + ")"),
            &next);
  }
  Drain(now, options.finish_grace_s, /*failure=*/false, next.exit_reason, decision);
}

void DecideTraining(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  if (CountWorkers(next, [](const WorkerState& w) { return !w.finished; }) == 0) {
    DecideFinished(now, options, decision);
    return;
  }
  if (next.stop_requested && !next.stop_sent) {
    next.stop_sent = true;
    MembershipAction stop;
    stop.kind = Kind::kStopWorkers;
    stop.reason = next.stop_reason;
    decision->actions.push_back(std::move(stop));
    decision->changed = true;
  }
  if (next.stop_requested && now - next.stop_since > options.stop) {
    SetExit(kExitStoppedEarly,
            "stopped (" + next.stop_reason + "); the workers did not finish within " +
                HumanSeconds(ToSeconds(options.stop)),
            &next);
    Drain(now, /*grace_s=*/0, /*failure=*/true, next.exit_reason, decision);
    return;
  }
  const std::vector<int> loading = RanksWithout(next, &WorkerState::running);
  if (next.phase == Phase::kStarting && loading.empty()) {
    decision->reason = "all ranks are training";
    EnterPhase(now, Phase::kRunning, decision);
    return;
  }
  decision->reason =
      next.phase == Phase::kRunning ? "training" : RankList(loading) + " still loading";
}

void DecideDraining(TimePoint now, const MembershipOptions& options, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  int missing = 0;
  for (const auto& [id, agent] : next.agents) missing += agent.draining ? 1 : 0;
  if (missing > 0 && now - next.phase_since > options.drain) {
    // They may still have workers: those carry a stale token, and the agent is not used again before a new hello.
    for (auto it = next.agents.begin(); it != next.agents.end();) {
      it = it->second.draining ? next.agents.erase(it) : std::next(it);
    }
    decision->changed = true;
    missing = 0;
  }
  if (missing > 0) {
    decision->reason = "waiting for " + std::to_string(missing) + " agent(s) to reap their workers";
    return;
  }
  next.workers.clear();
  if (next.exit_code >= 0) {
    Shutdown(now, next.exit_code, next.exit_reason, decision);
  } else if (next.stop_requested) {
    Shutdown(now, kExitStoppedEarly, "stopped (" + next.stop_reason + ") between two generations",
             decision);
  } else {
    decision->reason = "all workers are gone";
    EnterPhase(now, Phase::kWaitingForAgents, decision);
  }
}

void DropSilentAgents(TimePoint now, const MembershipOptions& options,
                      MembershipDecision* decision) {
  std::vector<int> silent;
  for (const auto& [id, agent] : decision->next.agents) {
    if (now - agent.last_heard > options.lease * 11 / 10) silent.push_back(id);
  }
  for (const int id : silent) {
    const Duration silence = now - decision->next.agents[id].last_heard;
    OnAgentLost(now, id, "was silent for " + HumanSeconds(ToSeconds(silence)), &decision->next);
    decision->changed = true;
  }
}

// Signals and failures of the coordinator itself, in any phase.
bool DecideOverrides(TimePoint now, MembershipDecision* decision) {
  MembershipState& next = decision->next;
  if (next.fatal.empty() && !next.second_signal) return false;
  if (next.exit_code < 0 || next.phase != Phase::kDraining) {
    SetExit(kExitFailed, next.fatal.empty() ? "interrupted by a second signal" : next.fatal, &next);
  }
  if (GenerationLives(next)) {
    Drain(now, /*grace_s=*/0, /*failure=*/!next.fatal.empty(), next.exit_reason, decision);
    return true;
  }
  if (next.phase == Phase::kWaitingForAgents) {
    Shutdown(now, next.exit_code, next.exit_reason, decision);
    return true;
  }
  return false;
}

}  // namespace

std::vector<int> PlaceRanks(const std::map<int, AgentState>& agents, int world_size) {
  std::vector<int> placement;
  for (const auto& [id, agent] : agents) {
    for (int i = 0; i < agent.capacity && static_cast<int>(placement.size()) < world_size; ++i) {
      placement.push_back(id);
    }
  }
  if (static_cast<int>(placement.size()) < world_size) placement.clear();
  return placement;
}

MembershipDecision Decide(TimePoint now, const MembershipState& state,
                          const MembershipOptions& options) {
  MembershipDecision decision;
  decision.next = state;
  if (state.phase == Phase::kOver) return decision;
  DropSilentAgents(now, options, &decision);
  if (DecideOverrides(now, &decision)) return decision;
  MembershipState& next = decision.next;
  if (GenerationLives(next) && next.end_cause) {
    if (next.end_cause->kind != EndKind::kPeerFailed ||
        now - next.end_cause->at >= options.settle) {
      EndGeneration(now, options, &decision);
      return decision;
    }
    decision.reason = "settling: " + next.end_cause->verdict;
    return decision;
  }
  switch (next.phase) {
    case Phase::kWaitingForAgents:
      DecideWaiting(now, options, &decision);
      break;
    case Phase::kSpawning:
      // Nothing is trained yet that a stop could save.
      if (next.stop_requested) {
        SetExit(kExitStoppedEarly,
                "stopped (" + next.stop_reason + ") while the workers were starting", &next);
        Drain(now, /*grace_s=*/0, /*failure=*/false, next.exit_reason, &decision);
      } else {
        DecideSpawning(now, options, &decision);
      }
      break;
    case Phase::kStarting:
    case Phase::kRunning:
      DecideTraining(now, options, &decision);
      break;
    case Phase::kDraining:
      DecideDraining(now, options, &decision);
      break;
    case Phase::kOver:
      break;
  }
  return decision;
}

}  // namespace weft
