// `weft coordinator`: decides for a run whose agents are on several machines.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows `weft coordinator`. Returns the exit code; messages go to stderr.
int CoordinatorCommand(const std::vector<std::string>& args);

}  // namespace weft
