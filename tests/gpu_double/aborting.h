// The end of communicators of the NCCL double: no kernel of theirs runs, and their streams forget what they used.
//
// Errors: an abort that a kernel of another communicator holds up is a breach. Thread rule: blocks the caller's thread.
#pragma once

#include <vector>

#include "tests/gpu_double/comm.h"

namespace weft::testing {

// CUDA gives memory back when the whole device has nothing to do, and so a kernel of another communicator that waits for a peer
// holds up an abort that is not in one group with its own.
void FinishAborts(const std::vector<ncclComm*>& aborted);

}  // namespace weft::testing
