// Proves that the lists of all data-parallel ranks fit together. Joins, reduces and gathers are collectives over dp of
// one pipeline rank: its lists have to have the same ones in the same order. And as those ranks also wait for messages of
// their own pipelines, all D * p lists are executed together, with each collective waiting for all its ranks, which is
// more than the engine waits.
//
// Errors: InvalidArgument with one sentence. Thread rule: pure functions.
#pragma once

#include <span>
#include <vector>

#include "cluster/base/status.h"
#include "parallel/schedule/program.h"

namespace weft {

// programs[dp_rank][pipeline rank]; spec.dp_rank is not read. REQUIRES: VerifyProgram accepts each dp rank's lists.
Status VerifyAcrossDp(const ProgramSpec& spec, std::span<const std::vector<RankProgram>> programs);

}  // namespace weft
