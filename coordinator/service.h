// The live coordinator: serves agents and status requests over TCP, applies the decisions of membership, failure detector
// and checkpoint ledger, journals and records what happens, until the run is over. Everything on one thread; it blocks for
// the few fsyncs of a commit.
//
// Errors: the exit code (0 done, 1 failed, 2 usage, 75 stopped early after a save, 93 do not requeue) and one message.
// Thread rule: RunCoordinator blocks its thread. It takes SIGINT and SIGTERM: the first stops the run at a step boundary,
// the second at once.
#pragma once

#include <functional>
#include <string>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/endpoint.h"
#include "coordinator/failure_detector.h"
#include "coordinator/membership.h"

namespace weft {

struct CoordinatorOptions {
  // Defaults filled in, validated.
  Recipe recipe;
  std::string run_dir;
  Endpoint bind = {"127.0.0.1", 0};
  MembershipOptions membership;
  FailureDetectorOptions detector;
  // Seconds between an agent's heartbeats.
  double heartbeat_s = 1;
  // Called once, when agents can connect.
  std::function<void(const Endpoint& endpoint, const std::string& run_token)> on_listening;
};

// World size, limits and deadlines as the recipe says.
CoordinatorOptions MakeCoordinatorOptions(const Recipe& recipe, const std::string& run_dir);

struct CoordinatorEnd {
  int exit_code = 1;
  // For stderr if the exit code is not 0.
  std::string message;
};

CoordinatorEnd RunCoordinator(const CoordinatorOptions& options);

}  // namespace weft
