// `weft bench`: how fast this machine does it. Executes weft-worker, which has the arithmetic.
#pragma once

#include <string>
#include <vector>

namespace weft {

int BenchCommand(const std::vector<std::string>& args);

}  // namespace weft
