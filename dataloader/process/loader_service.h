// What `weft loader` does: serves the rings of a node's workers out of the memory that the agent made, one feeder thread a
// region, each with a Loader of its own. It holds no state: killed at any moment, the next one goes on where the rings say.
//
// Errors: a request that cannot be served is answered with its Status; only memory that is not a loader's ends the service.
// Thread rule: Run blocks until `stopping`, and all threads are gone when it returns.
#pragma once

#include <atomic>
#include <memory>

#include "cluster/base/loader_segment.h"
#include "cluster/base/status.h"

namespace weft {

struct LoaderServiceOptions {
  std::shared_ptr<LoaderSegment> segment;
  // nullptr: until the process is killed.
  const std::atomic<bool>* stopping = nullptr;
};

Status RunLoaderService(const LoaderServiceOptions& options);

}  // namespace weft
