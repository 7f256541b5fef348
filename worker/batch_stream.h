// The loader's micro-batches as the named tensors that a model's first blocks ask for: "pixels" u8 [b, 3, S, S],
// "ids" i64 [b, T], "eot" i64 [b].
//
// Thread rule: the training thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/loader.h"
#include "parallel/engine/block.h"

namespace weft {

// One step's micro-batches: own slots in order, the micro-batches of each.
struct StepBatch {
  std::vector<NamedTensors> micro_batches;
  int64_t samples = 0;
  // Seconds that the step waited for the loader.
  double wait_s = 0;
};

NamedTensors ToTensors(const MicroBatch& batch, int image_size, int context_length);

class BatchStream {
 public:
  BatchStream(const LoaderOptions& options, std::unique_ptr<Loader> loader);
  // Errors: the loader's.
  StatusOr<StepBatch> Next(int64_t step);
  const Loader& loader() const { return *loader_; }

 private:
  LoaderOptions options_;
  std::unique_ptr<Loader> loader_;
};

}  // namespace weft
