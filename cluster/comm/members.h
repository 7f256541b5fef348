// Who takes part in a communicator, as one rank sees it: its own number, and the way to each of the others.
//
// Thread rule: constant after construction; the links themselves belong to the communicator's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/comm/link.h"

namespace weft {

struct Members {
  int rank = 0;
  // By rank; null for the own one.
  std::vector<std::unique_ptr<Link>> links;
  // What a person knows the ranks by: their numbers in the whole world; empty: the same numbers.
  std::vector<int> world_ranks;

  int size() const { return static_cast<int>(links.size()); }
  Link& link(int peer) const { return *links[static_cast<size_t>(peer)]; }
  int WorldRank(int member) const {
    return world_ranks.empty() ? member : world_ranks[static_cast<size_t>(member)];
  }
  // "rank 3".
  std::string Name(int member) const { return "rank " + std::to_string(WorldRank(member)); }
};

}  // namespace weft
