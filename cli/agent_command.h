// `weft agent`: holds the workers of one machine.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows `weft agent`. Returns the exit code; messages go to stderr.
int AgentCommand(const std::vector<std::string>& args);

}  // namespace weft
