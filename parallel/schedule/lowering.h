// From an order of computing to the list that the engine runs: what has to stand around the forwards and backwards.
//
// Thread rule: pure functions.
#pragma once

#include "parallel/schedule/action.h"
#include "parallel/schedule/program_spec.h"

namespace weft {

// kSlotDone, kReduce, kGather, kRelease and kTie into one rank's order over the micro-batches of the dp rank that has
// the most. With ZeRO 3 the gather of the next stage in use stands one forward or backward ahead.
RankProgram AddCollectives(const ProgramSpec& spec, int rank, const RankProgram& order);

// Leaves out the micro-batches and slots that the dp rank lacks. Collectives stay.
void DropMissing(const ProgramSpec& spec, RankProgram* program);

// Sends right after what makes the tensor; receives right before what needs it, unless an earlier message of the same
// pair of ranks is needed later: a pair's receives are in the order of its sends.
void AddTransfers(const ProgramSpec& spec, std::vector<RankProgram>* programs);

}  // namespace weft
