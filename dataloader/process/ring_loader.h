// A Loader whose micro-batches another process makes: the worker's end of a shared ring. It lives on through deaths of the
// loader process; the same request gives the same micro-batches as Loader::Open in this process would.
//
// Errors: those of Loader, as the loader process met them; Unavailable where it hangs, or died so often that the agent gave
// it up, with the agent's reason; Internal for bytes in the ring that were not asked for.
// Thread rule: as Loader.
#pragma once

#include <cstdint>
#include <memory>

#include "cluster/base/clock.h"
#include "cluster/base/loader_segment.h"
#include "cluster/base/status.h"
#include "dataloader/loader.h"

namespace weft {

// A worker's place in the node's loader, as its agent gave it.
struct LoaderSeat {
  std::shared_ptr<LoaderSegment> segment;
  int region = 0;
  // Whether the node's regions follow each other as ranks do.
  bool consecutive = false;
  // Of the workers that read this region; reader 0 asks for all of them.
  int reader = 0;
  int readers = 1;
  // The agent's number of this start of workers, at least 1, never the same again.
  uint64_t id = 0;
  // A loader that shows no life for so long, though its agent sees to it, ends the wait.
  Duration dead_after = std::chrono::seconds(120);
  // So long a living loader may need for its answer (it may index shards), or one micro-batch.
  Duration slow_after = std::chrono::seconds(900);
};

inline constexpr int kMaxRingReaders = 16;

StatusOr<std::unique_ptr<Loader>> OpenRingLoader(const LoaderSeat& seat,
                                                 const LoaderOptions& options);

}  // namespace weft
