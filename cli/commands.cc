#include "cli/commands.h"

#include "cli/checkpoint_command.h"
#include "cli/data_command.h"
#include "cli/report_command.h"
#include "cli/version_command.h"

namespace weft {

std::vector<Command> Commands() {
  return {
      {"checkpoint", "lists the checkpoints of a run, or verifies them", CheckpointCommand},
      {"data", "packs pictures into shards, shows shards, trains a vocabulary", DataCommand},
      {"report", "shows what a run did and what its model learned", ReportCommand},
      {"version", "what this build is", VersionCommand},
  };
}

}  // namespace weft
