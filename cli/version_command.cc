#include "cli/version_command.h"

#include <google/protobuf/stubs/common.h>

#include <cstdio>

#include "cli/build_info.h"
#include "cli/flags.h"

namespace weft {

int VersionCommand(const std::vector<std::string>& args) {
  const FlagParser flags("weft version", "", "Shows what this build of Weft is made of.");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  std::printf("weft %s (%s)\n", kVersion, kRevision);
  std::printf("compiler %s, %s\n", kCompiler, kBuildType);
  std::printf("protobuf %s\n",
              google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION).c_str());
  std::printf("worker: %s\n", kWorker);
  return 0;
}

}  // namespace weft
