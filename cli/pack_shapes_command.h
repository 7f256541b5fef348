// `weft data pack shapes`.
#pragma once

#include <string>
#include <vector>

namespace weft {

int PackShapesCommand(const std::vector<std::string>& args);

}  // namespace weft
