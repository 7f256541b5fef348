// Who takes part in the run, and what happens next. Agents bring capacity; a generation is one placement of all ranks on
// agents, from Spawn to the last reaped worker:
//
//   Waiting for agents -> Spawning -> Starting -> Running -> Draining -> next generation | Over
//
// Events are applied to the state by the functions of membership_events.h; Decide looks at (now, state, options) and returns
// the actions to take, the next state and the reason. The run's life (run_lifecycle.h) calls
//   do { d = Decide(now, state, options); state = d.next; <perform d.actions in order>; } while (d.changed);
// after every event and on a tick (about 0.1 s). Safety never depends on time: deadlines only end generations.
//
// Thread rule: values; no clock, no sockets, no locks.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "coordinator/membership_state.h"

namespace weft {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitStoppedEarly = 75;
inline constexpr int kExitDoNotRequeue = 93;

struct MembershipOptions {
  int world_size = 1;
  // An agent that is silent for lease * 1.1 is taken for lost.
  Duration lease = FromSeconds(10);
  // Deadline for enough agents, counted from the moment they are missing.
  Duration agent_wait = FromSeconds(300);
  // Deadline from Spawn to the last WorkerHello.
  Duration startup = FromSeconds(120);
  // Deadline from KillWorkers to the last WorkersGone; an agent that misses it is taken for lost.
  Duration drain = FromSeconds(20);
  // How long a failure that blames a peer waits for a better cause.
  Duration settle = FromSeconds(0.25);
  // From Stop to the last Finished; after it workers are killed (the last commit stays).
  Duration stop = FromSeconds(600);
  // Seconds that workers get to leave by themselves after all have finished.
  double finish_grace_s = 5;
  // Ends of generations without a new commit before the run gives up with exit code 93.
  int max_fruitless_restarts = 3;
};

enum class MembershipActionKind {
  // Journal GENERATION_ACTIVE(token), durably, before the next action; reset detector and ledger for `token`.
  // If the journal fails: OnFatal, and perform no further action of this decision.
  kActivate,
  kSpawn,        // to `agent`: start `ranks`
  kStart,        // to all workers: endpoints of next.workers, the last committed manifest
  kStopWorkers,  // Stop to all workers
  kEndGeneration,  // the token may not commit any more; journal WORKER_LOST(reason) if it is a failure
  kKillWorkers,  // to `agent`, with grace_s
  kShutdown,  // Shutdown(exit_code, reason) to all agents; journal RUN_FINISHED; leave with exit_code
};
struct MembershipAction {
  MembershipActionKind kind = MembershipActionKind::kActivate;
  int agent = -1;
  std::vector<int> ranks;
  double grace_s = 0;
  int exit_code = 0;
  // kEndGeneration: false if the generation ended as it should.
  bool failure = false;
  std::string reason;
};

struct MembershipDecision {
  MembershipState next;
  std::vector<MembershipAction> actions;
  std::string reason;
  // The state moved on: call Decide again.
  bool changed = false;
};

MembershipDecision Decide(TimePoint now, const MembershipState& state,
                          const MembershipOptions& options);

// Agent of each rank, lowest agent ids first, ranks of an agent contiguous; empty if the capacity is too small.
std::vector<int> PlaceRanks(const std::map<int, AgentState>& agents, int world_size);

}  // namespace weft
