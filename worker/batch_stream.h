// The loader's micro-batches as the named tensors that a model's blocks ask for: bytes as uint8, integers as int64.
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
  // Labels that a loss counts, of each micro-batch; known on every rank, whatever fields it reads.
  std::vector<int64_t> targets;
  // Seconds that the step waited for the loader.
  double wait_s = 0;
};

// Each field as a tensor of its name, [b, ...]. Copies.
NamedTensors ToTensors(const MicroBatch& batch);

class BatchStream {
 public:
  BatchStream(const LoaderOptions& options, std::unique_ptr<Loader> loader);
  // Errors: the loader's.
  StatusOr<StepBatch> Next(int64_t step);
  const Loader& loader() const { return *loader_; }

 private:
  const LoaderOptions options_;
  std::unique_ptr<Loader> loader_;
};

}  // namespace weft
