#include "coordinator/membership_state.h"

#include <utility>

namespace weft {

const char* MembershipPhaseName(MembershipPhase phase) {
  switch (phase) {
    case MembershipPhase::kWaitingForAgents:
      return "waiting for agents";
    case MembershipPhase::kSpawning:
      return "spawning";
    case MembershipPhase::kStarting:
      return "starting";
    case MembershipPhase::kRunning:
      return "running";
    case MembershipPhase::kDraining:
      return "draining";
    case MembershipPhase::kOver:
      return "over";
  }
  return "unknown";
}

MembershipState InitialMembership(TimePoint now, uint64_t epoch) {
  MembershipState state;
  state.token = {epoch, 0};
  state.phase_since = now;
  return state;
}

bool GenerationLives(const MembershipState& state) {
  return state.phase == MembershipPhase::kSpawning || state.phase == MembershipPhase::kStarting ||
         state.phase == MembershipPhase::kRunning;
}

std::vector<int> RanksOf(const MembershipState& state, int agent) {
  std::vector<int> ranks;
  for (size_t rank = 0; rank < state.workers.size(); ++rank) {
    if (state.workers[rank].agent == agent) ranks.push_back(static_cast<int>(rank));
  }
  return ranks;
}

std::string RankList(const std::vector<int>& ranks) {
  std::string text;
  for (const int rank : ranks) text += (text.empty() ? "" : ", ") + std::to_string(rank);
  return (ranks.size() == 1 ? "rank " : "ranks ") + text;
}

void OfferCause(EndCause cause, MembershipState* state) {
  if (!state->end_cause || cause.kind < state->end_cause->kind) {
    // The settling time runs from the first sign of trouble.
    if (state->end_cause) cause.at = state->end_cause->at;
    state->end_cause = std::move(cause);
  }
}

}  // namespace weft
