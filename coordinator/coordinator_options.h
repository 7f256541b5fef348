// What a coordinator is started with, and what it ends with.
//
// Thread rule: values.
#pragma once

#include <functional>
#include <string>

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

}  // namespace weft
