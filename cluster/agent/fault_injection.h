// Faults on purpose, for tests and the demo: `kill:rank=1,step=33` (SIGKILL) or `stop:rank=1,step=33` (SIGSTOP: a hang).
//
// Thread rule: a value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

struct FaultInjection {
  int signal = 0;
  int rank = 0;
  int64_t step = 0;
};

// InvalidArgument shows the form that is meant.
StatusOr<FaultInjection> ParseFaultInjection(const std::string& text);

// Which faults are due. Each fires once, in an epoch's first generation, when the run comes from below its step.
class FaultInjector {
 public:
  FaultInjector() = default;
  explicit FaultInjector(std::vector<FaultInjection> faults) : pending_(std::move(faults)) {}

  // The run has reached `step` in `generation`.
  std::vector<FaultInjection> OnStep(uint64_t generation, int64_t step);

 private:
  std::vector<FaultInjection> pending_;
  int64_t last_step_ = -1;
};

}  // namespace weft
