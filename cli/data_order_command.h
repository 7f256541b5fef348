// `weft data order`: which sample stands at which place of a run.
#pragma once

#include <string>
#include <vector>

namespace weft {

// As in data_set_commands.h.
int DataOrderCommand(const std::vector<std::string>& args);

}  // namespace weft
