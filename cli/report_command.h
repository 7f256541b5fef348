// `weft report RUN_DIR`: the page and the figures of a run.
#pragma once

#include <string>
#include <vector>

namespace weft {

int ReportCommand(const std::vector<std::string>& args);

}  // namespace weft
