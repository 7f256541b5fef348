// `_done` of a packed folder: the options that it was packed with, the sizes of its files, and the report's figures. Written last.
//
// Thread rule: pure functions of the files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cluster/base/status.h"

namespace weft {

// What DIR/_done says. NotFound unless it is of these options and its files are still as large as it says.
StatusOr<nlohmann::ordered_json> ReadDoneFile(const std::string& dir,
                                              const nlohmann::ordered_json& options);

}  // namespace weft
