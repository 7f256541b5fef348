// What the stages share: running programs in the work folder, reading what they leave, and words for people.
//
// Errors: Internal with the last lines of what a program printed. Thread rule: one thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/selftest/selftest.h"

namespace weft {

// Runs one of weft's programs in the work folder, its output in NAME.log. OK if it ends with 0.
Status RunSelftestProgram(const SelftestOptions& options, const std::string& name,
                          const std::string& program, std::vector<std::string> args);
StatusOr<nlohmann::json> ReadSelftestJson(const SelftestOptions& options, const std::string& name);
// The recipe NAME ("clip/tiny") as bytes in a file of the work folder, for the worker.
StatusOr<std::string> WriteSelftestRecipe(const SelftestOptions& options, const std::string& name,
                                          const std::vector<std::string>& overrides);
SelftestRow FailedRow(const std::string& stage, const std::string& name, const Status& status);
// For the worker's --device.
std::string SelftestDevice(const SelftestOptions& options);
// printf of one number.
std::string FormatNumber(const char* format, double value);

}  // namespace weft
