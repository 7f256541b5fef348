// `weft data cat` and `stats`: what is in a data set.
#pragma once

#include <string>
#include <vector>

namespace weft {

// As in data_set_commands.h.
int DataCatCommand(const std::vector<std::string>& args);
int DataStatsCommand(const std::vector<std::string>& args);

}  // namespace weft
