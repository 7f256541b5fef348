// Actions in words, for errors, logs and drawings.
//
// Thread rule: pure functions.
#pragma once

#include <string>

#include "parallel/schedule/action.h"

namespace weft {

// "forward", "weight gradients", "receive activations", ...
const char* ActionKindName(ActionKind kind);

// "forward of stage 1, micro-batch 3, phase 0", "receive gradients from rank 2 for stage 1, micro-batch 3, phase 0",
// "reduce of stage 1, round 2, phase 0", "join of phase 1".
std::string ActionText(const Action& action);

// A line each, "  12 forward of stage ...".
std::string ProgramText(const RankProgram& program);

}  // namespace weft
