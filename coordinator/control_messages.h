// The coordinator's own values as frames and messages for agents and workers (cluster/rpc/control.proto), and what those
// send as values.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/checkpoint_ledger.h"
#include "coordinator/failure_detector.h"
#include "coordinator/token.h"

namespace weft {

Token FromWire(const control::Token& token);
ProgressReport FromWire(const control::Progress& progress);

// ---- to an agent
control::Frame WelcomeFrame(int agent, double heartbeat_s, Duration lease);
control::Frame HeartbeatAckFrame(uint64_t sequence);
control::Frame SpawnFrame(const std::vector<int>& ranks, const std::string& log_dir);
control::Frame KillFrame(double grace_s);
control::Frame ShutdownFrame(int exit_code, const std::string& reason);
// To the worker `rank` through its agent.
control::Frame ToWorkerFrame(int rank, const control::CoordinatorMessage& message);

// ---- to a worker
control::CoordinatorMessage StopMessage(const std::string& reason);
// Asks for its last `count` operations.
control::CoordinatorMessage DumpMessage(int count);
control::CoordinatorMessage GrantMessage(const SendGrant& grant, const std::string& directory);
control::CoordinatorMessage OutcomeMessage(const SendOutcome& outcome);

}  // namespace weft
