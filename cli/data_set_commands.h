// `weft data index`, `lint` and `exclude`: what is done with a data set before a run.
#pragma once

#include <string>
#include <vector>

namespace weft {

// `args`: what follows the command's name. Return the exit code: 0, 1 (it failed, or something was found), 2 (wrong
// usage); messages go to stderr.
int DataIndexCommand(const std::vector<std::string>& args);
int DataLintCommand(const std::vector<std::string>& args);
int DataExcludeCommand(const std::vector<std::string>& args);

}  // namespace weft
