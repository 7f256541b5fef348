// The live coordinator: gives the run's life (run_lifecycle.h) its sockets, clock, ticks and signals, until the run is over.
// Everything on one thread; it blocks for the few fsyncs of a commit.
//
// Errors: the exit code (0 done, 1 failed, 2 usage, 75 stopped early after a save, 93 do not requeue) and one message.
// Thread rule: RunCoordinator blocks its thread. It takes SIGINT and SIGTERM: the first stops the run at a step boundary,
// the second at once.
#pragma once

#include "coordinator/coordinator_options.h"

namespace weft {

CoordinatorEnd RunCoordinator(const CoordinatorOptions& options);

}  // namespace weft
