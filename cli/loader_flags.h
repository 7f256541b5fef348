// Where a node's samples are read and decoded: flags of every command that holds an agent.
//
// Errors: InvalidArgument names the flag. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <string>

#include "cli/flags.h"
#include "cluster/agent/agent.h"
#include "cluster/base/status.h"

namespace weft {

struct LoaderFlags {
  std::string place = "threads";
  int64_t bytes = int64_t{1} << 30;

  void AddTo(FlagParser* flags);
  Status Apply(AgentOptions* agent) const;
};

}  // namespace weft
