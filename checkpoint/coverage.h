// What a manifest must satisfy before it may be committed, and before it is trusted: every rank's shard is there once and
// of the same attempt, the slices tile each tensor exactly, and a resume finds all it needs.
//
// Boxes of one tensor (tensor-parallel slices) are equal or disjoint; the flat ranges inside one box tile it. So the check
// costs a sort per box, never an enumeration of elements.
//
// Errors: FailedPrecondition names tensor, range and shard files. Thread rule: pure functions.
#pragma once

#include "checkpoint/manifest.pb.h"
#include "cluster/base/status.h"

namespace weft {

// Ranks 0 .. world-1 once each, tokens, step and attempt as the manifest's, file names, root CRCs.
Status CheckShards(const checkpoint::Manifest& manifest);
// Equal dtype and shape in all slices of a tensor; no hole, no overlap.
Status CheckTiling(const checkpoint::Manifest& manifest);
// Step, seed, recipe hash and data cursor. Where any adam.m/ or adam.v/ exists: both for each param/ that is
// not named frozen by the train state, with its shape.
Status CheckCompleteness(const checkpoint::Manifest& manifest);
// The three of them, in this order.
Status CheckCoverage(const checkpoint::Manifest& manifest);

}  // namespace weft
