#include "coordinator/membership_events.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace weft {
namespace {

// What a worker is called in verdicts.
std::string RankName(const MembershipState& state, int rank) {
  const WorkerState& worker = state.workers[static_cast<size_t>(rank)];
  std::string text = "rank " + std::to_string(rank);
  std::string details;
  if (const auto agent = state.agents.find(worker.agent); agent != state.agents.end()) {
    details = "host " + agent->second.host;
  }
  if (worker.pid > 0)
    details += (details.empty() ? "" : ", ") + ("pid " + std::to_string(worker.pid));
  return details.empty() ? text : text + " (" + details + ")";
}

std::string StepText(const WorkerState& worker) {
  return worker.running ? " at step " + std::to_string(worker.step) : " before its first step";
}

std::string ExitText(int exit_code, int signal) {
  if (signal == 0) return "left with exit code " + std::to_string(exit_code);
  const char* name = ::strsignal(signal);
  return "was killed by signal " + std::to_string(signal) + " (" + (name != nullptr ? name : "?") +
         ")";
}

WorkerState* FindWorker(Token token, int rank, MembershipState* state) {
  if (token != state->token || !GenerationLives(*state)) return nullptr;
  if (rank < 0 || rank >= static_cast<int>(state->workers.size())) return nullptr;
  return &state->workers[static_cast<size_t>(rank)];
}

bool BlamesPeer(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kDeadlineExceeded ||
         code == StatusCode::kCancelled;
}

}  // namespace

int OnAgentHello(TimePoint now, const std::string& host, int64_t pid,
                 const std::string& incarnation, int capacity, MembershipState* state) {
  const int id = state->next_agent_id++;
  AgentState& agent = state->agents[id];
  agent.host = host;
  agent.pid = pid;
  agent.incarnation = incarnation;
  agent.capacity = capacity;
  agent.last_heard = now;
  return id;
}

void OnAgentHeard(TimePoint now, int agent, MembershipState* state) {
  if (const auto it = state->agents.find(agent); it != state->agents.end())
    it->second.last_heard = now;
}

void OnAgentLost(TimePoint now, int agent, const std::string& why, MembershipState* state) {
  const auto it = state->agents.find(agent);
  if (it == state->agents.end()) return;
  const std::string host = it->second.host;
  state->agents.erase(it);
  if (!GenerationLives(*state)) return;
  std::vector<int> unfinished;
  int64_t step = 0;
  for (const int rank : RanksOf(*state, agent)) {
    const WorkerState& worker = state->workers[static_cast<size_t>(rank)];
    step = std::max(step, worker.step);
    if (!worker.finished) unfinished.push_back(rank);
  }
  if (unfinished.empty()) return;
  OfferCause({EndKind::kAgentLost, unfinished.front(), step, now,
              "the agent on host " + host + " (" + RankList(unfinished) + ") " + why + " at step " +
                  std::to_string(step)},
             state);
}

void OnWorkerHello(TimePoint, Token token, int rank, const control::WorkerHello& hello,
                   MembershipState* state) {
  WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr) return;
  worker->hello = true;
  worker->pid = hello.pid();
  worker->endpoint = hello.endpoint();
  worker->said = std::make_shared<const control::WorkerHello>(hello);
}

void OnWorkerProgress(Token token, int rank, int64_t step, bool running, MembershipState* state) {
  WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr) return;
  worker->step = step;
  worker->running = worker->running || running;
}

void OnWorkerExited(TimePoint now, Token token, int rank, int exit_code, int signal,
                    MembershipState* state) {
  WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr || worker->exited) return;
  worker->exited = true;
  // Who has said why it leaves has been heard already.
  if (worker->finished || worker->failed) return;
  OfferCause({EndKind::kDied, rank, worker->step, now,
              RankName(*state, rank) + " " + ExitText(exit_code, signal) + StepText(*worker)},
             state);
}

void OnWorkerFailed(TimePoint now, Token token, int rank, StatusCode code,
                    const std::string& message, MembershipState* state) {
  WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr || worker->failed) return;
  worker->failed = true;
  const EndKind kind = code == StatusCode::kInvalidArgument ? EndKind::kNoRestart
                       : BlamesPeer(code)                   ? EndKind::kPeerFailed
                                                            : EndKind::kFailed;
  OfferCause({kind, rank, worker->step, now,
              RankName(*state, rank) + " failed" + StepText(*worker) + ": " + message},
             state);
}

void OnWorkerFinished(Token token, int rank, int64_t step, bool complete, MembershipState* state) {
  WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr) return;
  worker->finished = true;
  worker->running = true;
  worker->complete = complete;
  worker->step = step;
}

void OnWorkersGone(Token token, int agent, MembershipState* state) {
  if (token != state->token) return;
  if (const auto it = state->agents.find(agent); it != state->agents.end())
    it->second.draining = false;
}

void OnHang(TimePoint now, Token token, int rank, const std::string& verdict,
            MembershipState* state) {
  const WorkerState* worker = FindWorker(token, rank, state);
  if (worker == nullptr) return;
  OfferCause({EndKind::kHung, rank, worker->step, now, verdict}, state);
}

void OnCommit(Token token, MembershipState* state) {
  if (token != state->token) return;
  state->committed_in_generation = true;
  state->fruitless = 0;
  state->first_fruitless_cause.clear();
}

void OnStopRequested(TimePoint now, const std::string& reason, MembershipState* state) {
  if (state->stop_requested) return;
  state->stop_requested = true;
  state->stop_reason = reason;
  state->stop_since = now;
}

void OnSecondSignal(MembershipState* state) { state->second_signal = true; }

void OnFatal(const std::string& reason, MembershipState* state) {
  if (state->fatal.empty()) state->fatal = reason;
}

}  // namespace weft
