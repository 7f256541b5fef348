// `weft data pack SHARDS`.
#pragma once

#include <string>
#include <vector>

namespace weft {

int PackSamplesCommand(const std::vector<std::string>& args);

}  // namespace weft
