// What happened to agents and workers, written into the membership's state; nothing is decided here. An event that ends a
// generation offers its cause, with the sentence that people will read.
//
// Contract with agents: an agent says hello only when no worker of its lives; WorkersGone only when all are reaped.
//
// Thread rule: pure functions of their arguments.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/membership_state.h"
#include "coordinator/token.h"

namespace weft {

// Events that carry a token do nothing if it is not the current one (the caller counts and drops the frame).

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
