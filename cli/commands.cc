#include "cli/commands.h"

#include "cli/agent_command.h"
#include "cli/bench_command.h"
#include "cli/checkpoint_command.h"
#include "cli/coordinator_command.h"
#include "cli/data_command.h"
#include "cli/loader_command.h"
#include "cli/report_command.h"
#include "cli/selftest_command.h"
#include "cli/status_command.h"
#include "cli/train_command.h"
#include "cli/version_command.h"

namespace weft {

std::vector<Command> Commands() {
  return {
      {"train", "trains a recipe on this machine; resumes what is there", TrainCommand},
      {"status", "what a run is doing now", StatusCommand},
      {"report", "shows what a run did and what its model learned", ReportCommand},
      {"data", "packs pictures into shards, shows them, trains a vocabulary", DataCommand},
      {"checkpoint", "lists the checkpoints of a run, or verifies them", CheckpointCommand},
      {"bench", "how fast this machine trains under a layout", BenchCommand},
      {"selftest", "whether this build trains as it should on this machine", SelftestCommand},
      {"coordinator", "the one coordinator of a run on several machines", CoordinatorCommand},
      {"agent", "holds the workers of one machine for a coordinator", AgentCommand},
      {"loader", "reads samples for the workers of a machine; agents start it", LoaderCommand},
      {"version", "what this build is", VersionCommand},
  };
}

}  // namespace weft
