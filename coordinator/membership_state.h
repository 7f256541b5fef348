// What is known of a run's agents and workers, and why its generation ends: the value that events change
// (membership_events.h) and from which decisions are made (membership.h).
//
// The first cause of a generation's end wins. Peers of a dead rank see failed collectives about as soon as its agent sees
// the death, so a failure that blames a peer waits `settle` for a proof of death before it becomes the cause.
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
#include "cluster/rpc/control.pb.h"
#include "coordinator/token.h"

namespace weft {

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

// The state of a run whose journal gave it `epoch`.
MembershipState InitialMembership(TimePoint now, uint64_t epoch);

// Spawning, starting or running: its workers count.
bool GenerationLives(const MembershipState& state);
// Ranks placed on `agent`, in order.
std::vector<int> RanksOf(const MembershipState& state, int agent);
// "rank 3", "ranks 0, 2".
std::string RankList(const std::vector<int>& ranks);
// The nearest to the root wins, among equals the first.
void OfferCause(EndCause cause, MembershipState* state);

}  // namespace weft
