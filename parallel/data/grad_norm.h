// The global norm of the gradient and clipping, on the shards that the reducer leaves. The norm is made of fp64 partial
// sums of fixed blocks: added block by block to a sum a parameter, those over tp, those in the model's order. The same bits
// for every dp, pp and grouping; a device adds the elements of a block in another order than the host. One read of the device,
// and two more exchanges through the host with tp and pp. A parameter that lies on several tp ranks counts once, a tied one as its owner.
//
// Errors: those of the communicator; Internal, naming the step, if the norm is not finite (on all ranks alike).
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/base/status.h"
#include "parallel/data/gradient_reducer.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// A collective, after GradientReducer::Finish. `step` is for the error only.
StatusOr<double> GradientNorm(const ParameterStore& store, const GradientReducer& reducer,
                              ParallelContext* context, int64_t step);

// Scales the shards so that the norm becomes clip_norm, if it is larger. clip_norm 0: no clipping.
void ClipGradients(const ParameterStore& store, const GradientReducer& reducer, double norm,
                   double clip_norm);

}  // namespace weft
