// An image encoder in a layout of its own: not split over tp, but with the images of a micro-batch dealt over the tp ranks.
// Its outputs are gathered at its end.
//
// Thread rule: a pure function.
#pragma once

#include "cluster/config/layout.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// With layout.encoder DEAL and tp > 1: the parameters of ModelSpec::encoder's blocks become whole and dealt, what passes
// between its blocks is dealt, and its last block's output whole on every rank. Else nothing changes.
void ApplyEncoderLayout(const Layout& layout, ModelSpec* spec);

}  // namespace weft
