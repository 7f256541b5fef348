// `weft data`: pack pictures into shards, look into shards, train a vocabulary.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows `weft data`. Returns the exit code: 0, 1 (it failed), 2 (wrong usage); messages go to stderr.
int DataCommand(const std::vector<std::string>& args);

}  // namespace weft
