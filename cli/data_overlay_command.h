// `weft data overlay`: captions, scores and filters laid over a data set.
#pragma once

#include <string>
#include <vector>

namespace weft {

// As in data_set_commands.h.
int DataOverlayCommand(const std::vector<std::string>& args);

}  // namespace weft
