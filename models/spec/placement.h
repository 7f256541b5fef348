// Which blocks of a model go into which stage of a pipeline. Torch-free.
//
// Costs are in units of a block's forward pass: 1 without a backward, 2 if only gradients of its inputs are needed (a
// frozen block after a trained one), 3 if it trains parameters.
// Thread rule: pure functions.
#pragma once

#include <vector>

#include "cluster/config/layout.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// By block: it trains a parameter, or reads what a block with a backward made.
std::vector<bool> BlocksWithBackward(const ModelSpec& model);

// By block: operations of one sample's forward and backward.
std::vector<double> BlockCosts(const ModelSpec& model);

// The first block of every stage; each has at least one. BY_COST: the dearest stage is as cheap as any cut allows, and
// among such cuts the sum of the squares of the stages' costs is the least. EVEN: as many blocks in each as they go.
// REQUIRES: 1 <= stages <= blocks.
std::vector<int> CutBlocks(const ModelSpec& model, int stages, Placement placement);

// The first stage that holds a block with a backward; the last stage if none does.
int FirstBackwardStage(const ModelSpec& model, const std::vector<int>& first_blocks);

}  // namespace weft
