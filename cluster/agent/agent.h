// The parent of a node's workers: connects to the coordinator, starts and kills workers as told, relays their messages
// under the token of their generation, reports each exit. It ends, and its workers with it, when the coordinator says so,
// when the coordinator is gone, or when its heartbeats stay unanswered for 0.7 of the lease.
//
// Errors: the exit code, and a sentence in the log.
// Thread rule: RunAgent blocks; its thread is the parent of the workers, and they die with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/agent/fault_injection.h"
#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/rpc/endpoint.h"

namespace weft {

struct AgentOptions {
  Endpoint coordinator;
  std::string run_token;
  // Ranks that this node can hold.
  int capacity = 1;
  // Address of this machine that the workers of other machines reach. Loopback: all workers are on this machine.
  std::string data_host = "127.0.0.1";
  // Path of weft-worker; empty: beside this program.
  std::string worker_program;
  // Path of weft, which is started as the loader; empty: beside this program.
  std::string loader_program;
  // Micro-batches that this node's loader process may hold, in bytes, for all workers together; 0: there is no such
  // process, and each worker reads and decodes for itself.
  int64_t loader_bytes = 0;
  // How long the coordinator may take to appear.
  Duration connect_timeout = std::chrono::seconds(60);
  // SIGINT and SIGTERM end the agent. Off where the coordinator in the same process takes them.
  bool handle_signals = true;
  std::vector<FaultInjection> faults;
};

struct AgentEnd {
  int exit_code = 1;
  std::string reason;
};

// Runs until the end; no worker lives when it returns.
AgentEnd RunAgent(const AgentOptions& options);

// <directory of this program>/weft-worker.
std::string DefaultWorkerProgram();
// <directory of this program>/weft.
std::string DefaultLoaderProgram();

}  // namespace weft
