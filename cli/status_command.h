// `weft status`: what a live run is doing.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows `weft status`. Returns the exit code; messages go to stderr.
int StatusCommand(const std::vector<std::string>& args);

}  // namespace weft
