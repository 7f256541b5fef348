// Element-wise reduction of several buffers in the order given: ((s0 + s1) + s2) + ... bf16 is
// summed in fp32 and rounded once, to nearest even. Max keeps a NaN that it meets.
//
// Thread rule: pure function of its arguments.
#pragma once

#include <span>

#include "cluster/comm/communicator.h"

namespace weft {

// dst may be one of the sources, but may not overlap any otherwise. No pointer needs to be aligned.
// REQUIRES: at least one source.
void ReduceElements(std::span<const void* const> sources, void* dst, size_t count, DType dtype,
                    ReduceOp op);

}  // namespace weft
