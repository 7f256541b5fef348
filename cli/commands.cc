#include "cli/commands.h"

#include "cli/report_command.h"
#include "cli/version_command.h"

namespace weft {

std::vector<Command> Commands() {
  return {
      {"report", "shows what a run did and what its model learned", ReportCommand},
      {"version", "what this build is", VersionCommand},
  };
}

}  // namespace weft
