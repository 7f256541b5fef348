// Which tensor types a precision means, and the names that communicators and checkpoints have for them.
//
// Thread rule: pure functions.
#pragma once

#include <c10/core/ScalarType.h>

#include "cluster/comm/communicator.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

// Parameters (but those that ask for keep_fp32) and activations.
at::ScalarType ComputeType(Precision precision);
// Master weights, moments, gradient sums, norms' parameters: fp32, and fp64 in FP64.
at::ScalarType AccumulateType(Precision precision);

DType ToDType(at::ScalarType type);
// "f32", "f64", "bf16": the checkpoint's names.
const char* CheckpointTypeName(at::ScalarType type);

}  // namespace weft
