// A run that starts from tensors of another run's checkpoint: whatever layout, precision and choice of trained parameters
// that one had.
//
// Errors: those of reading; InvalidArgument for a checkpoint that has nothing of what is asked for, another shape or a type
// that no parameter can have. Thread rule: the training thread.
#pragma once

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "worker/rank_state.h"

namespace weft {

// Fills the parameters that `init` names, converted to the type in which this run keeps them, and publishes the values. A
// collective.
Status InitializeFrom(const InitFrom& init, FileSystem* fs, RankState* state);

}  // namespace weft
