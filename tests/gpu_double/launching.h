// How calls of the NCCL double become kernels on a stream: one for the calls of a group on one communicator, once both sides
// of every first message have called.
//
// Errors: a group with several streams for one communicator is a breach. Thread rule: the launching thread.
#pragma once

#include <nccl.h>

#include <vector>

#include "tests/gpu_double/comm.h"

namespace weft::testing {

ncclResult_t LaunchGroup(std::vector<NcclCall> calls);

}  // namespace weft::testing
