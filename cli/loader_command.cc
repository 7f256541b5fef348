#include "cli/loader_command.h"

#include <memory>
#include <utility>

#include "cli/flags.h"
#include "cli/recipe_flags.h"
#include "cluster/base/loader_segment.h"
#include "cluster/base/logging.h"
#include "dataloader/process/loader_service.h"

namespace weft {

int LoaderCommand(const std::vector<std::string>& args) {
  int64_t memory_fd = -1;
  FlagParser flags("weft loader", "--memory-fd N",
                   "Reads and decodes samples for the workers of a node, into memory that their "
                   "agent made. Agents start it\n(run.loader: PROCESS); it is of no use by hand.");
  flags.Int("memory-fd", &memory_fd, "the inherited descriptor of that memory");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  auto segment = LoaderSegment::Adopt(static_cast<int>(memory_fd));
  if (!segment.ok()) return ReportError("weft loader", segment.status());
  SetLogPrefix("loader " + std::to_string((*segment)->front().starts));
  // Without handlers: whatever ends it, the next one goes on where the rings say.
  const Status status = RunLoaderService({.segment = std::move(*segment)});
  return status.ok() ? 0 : ReportError("weft loader", status);
}

}  // namespace weft
