// `weft train`: trains on this machine: coordinator and agent in one process.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows `weft train`. Returns the exit code; messages go to stderr.
int TrainCommand(const std::vector<std::string>& args);

}  // namespace weft
