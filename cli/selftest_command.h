// `weft selftest`: whether this build trains as it should on this machine.
#pragma once

#include <string>
#include <vector>

namespace weft {

// Exit codes: 0 all well, 1 something failed, 2 wrong use, 3 no CUDA device.
int SelftestCommand(const std::vector<std::string>& args);

}  // namespace weft
