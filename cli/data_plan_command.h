// `weft data plan`: what a run will read, before it runs.
#pragma once

#include <string>
#include <vector>

namespace weft {

// As in data_set_commands.h.
int DataPlanCommand(const std::vector<std::string>& args);

}  // namespace weft
