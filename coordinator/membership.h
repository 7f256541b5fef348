// Who takes part in the run, and what happens next. Agents bring capacity; a generation is one placement of all ranks on
// agents, from Spawn to the last reaped worker:
//
//   Waiting for agents -> Spawning -> Starting -> Running -> Draining -> next generation | Over
//
// Events are applied to the state by the On... functions; Decide looks at (now, state, options) and returns the actions
// to take, the next state and the reason. The service calls
//   do { d = Decide(now, state, options); state = d.next; <perform d.actions in order>; } while (d.changed);
// after every event and on a tick (about 0.1 s). Safety never depends on time: deadlines only end generations.
//
// The first cause of a generation's end wins. Peers of a dead rank see failed collectives about as soon as its agent sees
// the death, so a failure that blames a peer waits `settle` for a proof of death before it becomes the cause.
//
// Contract with agents: an agent says hello only when no worker of its lives; WorkersGone only when all are reaped.
//
// Thread rule: values; no clock, no sockets, no locks.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/token.h"

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

enum class MembershipPhase { kWaitingForAgents, kSpawning, kStarting, kRunning, kDraining, kOver };
const char* MembershipPhaseName(MembershipPhase phase);

struct AgentState {
  std::string host;
  std::string incarnation;
  int64_t pid = 0;
  int capacity = 0;
  TimePoint last_heard{};
  // KillWorkers is out and WorkersGone is not in.
  bool draining = false;
};

struct WorkerState {
  int agent = -1;
  bool hello = false;
  bool running = false;  // has reported the training phase
  bool finished = false;
  bool complete = false;  // with Finished
  bool failed = false;    // has said why it leaves
  bool exited = false;
  int64_t pid = 0;
  int64_t step = 0;  // last reported
  std::string endpoint;
  // Shared: the state is copied at each decision.
  std::shared_ptr<const control::WorkerHello> said;
};

// Why a generation ended. A smaller kind is nearer to the root.
enum class EndKind {
  kNoRestart,  // the recipe or the data are wrong: restarting cannot help
  kDied,       // a worker died without a word
  kFailed,     // a worker failed by its own fault
  kHung,       // the failure detector's verdict
  kAgentLost,
  kStartup,     // a deadline passed
  kPeerFailed,  // a worker failed because a peer did
};
struct EndCause {
  EndKind kind = EndKind::kDied;
  int rank = -1;
  int64_t step = 0;
  TimePoint at{};
  // One sentence: "rank 2 (host n5, pid 123) was killed by signal 9 (Killed) at step 812".
  std::string verdict;
};

struct MembershipState {
  MembershipPhase phase = MembershipPhase::kWaitingForAgents;
  // Of the current generation; (epoch, 0) before the first.
  Token token;
  std::map<int, AgentState> agents;  // connected ones, by id
  int next_agent_id = 1;
  std::vector<WorkerState> workers;  // by rank, of the current generation
  TimePoint phase_since{};
  std::optional<EndCause> end_cause;
  bool stop_requested = false;
  std::string stop_reason;
  TimePoint stop_since{};
  bool stop_sent = false;
  bool second_signal = false;
  // Set by OnFatal: the coordinator itself cannot go on.
  std::string fatal;
  // Generations that ended without a commit, in a row, and the cause of the first of them.
  int fruitless = 0;
  std::string first_fruitless_cause;
  bool committed_in_generation = false;
  // What the run ends with when the drain is over; -1: another generation follows.
  int exit_code = -1;
  std::string exit_reason;
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

// The state of a run whose journal gave it `epoch`.
MembershipState InitialMembership(TimePoint now, uint64_t epoch);

MembershipDecision Decide(TimePoint now, const MembershipState& state,
                          const MembershipOptions& options);

// Agent of each rank, lowest agent ids first, ranks of an agent contiguous; empty if the capacity is too small.
std::vector<int> PlaceRanks(const std::map<int, AgentState>& agents, int world_size);

// ---- events. Those that carry a token do nothing if it is not the current one (the caller counts and drops the frame).

// Returns the new agent's id.
int OnAgentHello(TimePoint now, const std::string& host, int64_t pid,
                 const std::string& incarnation, int capacity, MembershipState* state);
// Any frame of the agent.
void OnAgentHeard(TimePoint now, int agent, MembershipState* state);
// Its connection is gone. Its ranks count as lost; what they still send carries a stale token.
void OnAgentLost(TimePoint now, int agent, const std::string& why, MembershipState* state);
void OnWorkerHello(TimePoint now, Token token, int rank, const control::WorkerHello& hello,
                   MembershipState* state);
// `running`: the worker reports the training (or a later) phase.
void OnWorkerProgress(Token token, int rank, int64_t step, bool running, MembershipState* state);
void OnWorkerExited(TimePoint now, Token token, int rank, int exit_code, int signal,
                    MembershipState* state);
void OnWorkerFailed(TimePoint now, Token token, int rank, StatusCode code,
                    const std::string& message, MembershipState* state);
void OnWorkerFinished(Token token, int rank, int64_t step, bool complete, MembershipState* state);
void OnWorkersGone(Token token, int agent, MembershipState* state);
// The failure detector's verdict.
void OnHang(TimePoint now, Token token, int rank, const std::string& verdict,
            MembershipState* state);
void OnCommit(Token token, MembershipState* state);
void OnStopRequested(TimePoint now, const std::string& reason, MembershipState* state);
void OnSecondSignal(MembershipState* state);
void OnFatal(const std::string& reason, MembershipState* state);

}  // namespace weft
