// Proves a step's lists before they run, by executing them with counters in place of tensors. It knows the rules, not how
// the lists were made, and takes time in proportion to their length:
//
//   - every stage runs each micro-batch forward, backward and its weight gradients once, each after what it needs;
//   - every receive meets its send, and a pair's receives are in the order of its sends; nothing waits for ever;
//   - backwards and weight gradients of a stage are in micro-batch order; a slot is done after its last weight gradient
//     and before the next slot's first; joins after all forwards before them on the last stage, and what follows after;
//   - each round of each stage is reduced once, in order, after its slot is done, and ties come after that;
//   - parameters are gathered before use and not used after release, at most one stage ahead where a schedule gathers by
//     micro-batch, and nothing stays gathered;
//   - activations stay within ActivationBound.
//
// Errors: InvalidArgument with one sentence: the rank, the position in its list (from 0), the action, what it waits for or
// which rule it breaks. Thread rule: pure functions.
#pragma once

#include <span>
#include <vector>

#include "cluster/base/status.h"
#include "parallel/schedule/program.h"

namespace weft {

// How many (stage, micro-batch) of one wave may be between forward and weight gradients on a rank. With m micro-batches:
//   a wave in two phases that keeps its graph   v m
//   GPipe                                       m
//   1F1B                                        min(m, p - rank)
//   interleaved 1F1B                            min(v m, 2 (p - rank - 1) + (v - 1) p + 1)   (Narayanan et al. 2021)
//   ZB-H1                                       min(m, p - frozen ranks at the start)        (Qi et al. 2023, table 2)
// Frozen stages before the first backward keep nothing, but nothing makes them wait for the others either: their outputs
// queue at the next stage.
int ActivationBound(const ProgramSpec& spec, int phase, int rank);

// The lists of the pipeline ranks of spec.dp_rank.
Status VerifyProgram(const ProgramSpec& spec, std::span<const RankProgram> programs);

}  // namespace weft
