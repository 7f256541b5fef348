// `weft loader`: reads and decodes samples for the workers of a node. Started by an agent, never by hand.
#pragma once

#include <string>
#include <vector>

namespace weft {

int LoaderCommand(const std::vector<std::string>& args);

}  // namespace weft
