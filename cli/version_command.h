// `weft version`: what this build is.
#pragma once

#include <string>
#include <vector>

namespace weft {

int VersionCommand(const std::vector<std::string>& args);

}  // namespace weft
