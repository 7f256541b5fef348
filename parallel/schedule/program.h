// The whole step of one data-parallel rank as lists of actions, one list a pipeline rank: all phases of the objective
// under a schedule, with every message, slot, exchange of gradients, gather of parameters, tie and join in its place.
//
// Conventions beyond action.h:
//   `stage` of a send or a receive is the stage on this rank: a kSendForward of stage s meets a kRecvForward of s + 1, a
//   kSendBackward of s a kRecvBackward of s - 1. Two stages on one rank (p = 1) hand over without a message.
//   kSlotDone and kReduce carry the phase whose gradients they are of: an objective with several phases that run backward
//   has a sum over slots for each of them.
//   kTie stands once on each rank that takes part, with its own stage (the owner's if it has both); `round` is the index
//   in ProgramSpec::ties. An exchange waits for the other rank; all ranks do theirs in the order of the indices.
//   kForward, kBackward and kBackwardInput need gathered parameters; kBackwardWeight and kJoin do not.
//   Of a kRecvForward or kRecvBackward that comes earlier than its use, the engine keeps the tensor.
//
// The lists of all data-parallel ranks are one list, made for the rank with the most slots, from which the others leave
// out the micro-batches that they lack. So collectives over dp are the same, in the same order, on every rank.
//
// Errors: InvalidArgument that names the field ("layout.pp"), the rule and the nearest values that work.
// Thread rule: values; pure functions.
#pragma once

#include <vector>

#include "cluster/base/status.h"
#include "parallel/schedule/action.h"
#include "parallel/schedule/program_spec.h"

namespace weft {

// One list a pipeline rank.
StatusOr<std::vector<RankProgram>> MakeProgram(const ProgramSpec& spec);

}  // namespace weft
