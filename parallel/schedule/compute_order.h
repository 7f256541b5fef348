// In what order a pipeline rank runs the forwards and backwards of one phase: this is all in which the schedules differ.
//
//   GPipe             all forwards, then all backwards (Huang et al. 2019, section 2.3).
//   1F1B              p - 1 - rank forwards, then one forward and one backward in turn (Narayanan et al. 2019, 2021,
//                     section 2.2: PipeDream-Flush).
//   interleaved 1F1B  the same over v stages a rank, p micro-batches of one stage after another (Narayanan et al. 2021,
//                     section 2.2). The paper wants a multiple of p micro-batches; here the order is made for the next
//                     multiple, and those that do not exist are left out.
//   ZB-H1             1F1B with the backward cut in two; rank r does the weight gradients r micro-batches later than the
//                     input gradients, so that those go upstream early and the rest fills the end (Qi et al. 2023,
//                     section 2.2). Frozen ranks before the first backward do not count.
//
// Backwards and weight gradients of a stage are in micro-batch order in all of them. Thread rule: pure functions.
#pragma once

#include "parallel/schedule/action.h"
#include "parallel/schedule/program_spec.h"

namespace weft {

// kForward, kBackward, kBackwardInput, kBackwardWeight, kJoin of `rank` in `phase` for `micro_batches` micro-batches.
RankProgram ComputeOrder(const ProgramSpec& spec, int phase, int rank, int micro_batches);

}  // namespace weft
