#include "cli/selftest/selftest.h"

#include <nlohmann/json.hpp>

#include "cli/selftest/stage_support.h"
#include "cluster/base/file_system.h"

namespace weft {

const char* SelftestOutcomeName(SelftestOutcome outcome) {
  switch (outcome) {
    case SelftestOutcome::kOk:
      return "ok";
    case SelftestOutcome::kFailed:
      return "FAILED";
    case SelftestOutcome::kSkipped:
      return "skipped";
  }
  return "";
}

StatusOr<std::vector<GpuOfSelftest>> ListSelftestGpus(const SelftestOptions& options) {
  WEFT_RETURN_IF_ERROR(
      RunSelftestProgram(options, "devices", "weft-worker", {"selftest", "devices"}));
  // Other libraries may print before it.
  WEFT_ASSIGN_OR_RETURN(const std::string text,
                        PosixFileSystem()->ReadFile(JoinPath(options.work_dir, "devices.log")));
  const size_t begin = text.rfind('[');
  std::vector<GpuOfSelftest> gpus;
  try {
    for (const nlohmann::json& gpu :
         nlohmann::json::parse(begin == std::string::npos ? text : text.substr(begin)))
      gpus.push_back({gpu.at("name"), gpu.at("memory_bytes")});
  } catch (const nlohmann::json::exception& error) {
    return Internal("weft-worker selftest devices: " + std::string(error.what()));
  }
  return gpus;
}

}  // namespace weft
