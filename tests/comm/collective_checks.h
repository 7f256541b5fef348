// What each rank does to find out whether a communicator's collectives and messages give the right values: all types, counts
// from nothing to several chunks, places that are not aligned.
#pragma once

#include <string>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"

namespace weft::testing {

// Internal(what) where the condition does not hold.
Status Expect(bool condition, const std::string& what);

// Every operation. `rank_order`: sums are those of the ranks' order to the last bit. Called by all ranks of `comm`.
Status CheckEverything(Communicator& comm, bool rank_order);

}  // namespace weft::testing
