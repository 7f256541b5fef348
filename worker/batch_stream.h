// The loader's micro-batches as the named tensors that a model's blocks ask for: bytes as uint8, integers as int64. For a device
// the next step's are read, and on their way, while the device computes this one's.
//
// Thread rule: the training thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/loader.h"
#include "parallel/device/compute_device.h"
#include "parallel/engine/step_inputs.h"

namespace weft {

// One step's micro-batches: own slots in order, the micro-batches of each.
struct StepBatch {
  StepInputs inputs;
  int64_t samples = 0;
  // Labels that a loss counts, of each micro-batch; known on every rank, whatever fields it reads.
  std::vector<int64_t> targets;
  // Seconds that the step waited for the loader.
  double wait_s = 0;
};

// Each field as a tensor of its name, [b, ...], in the host's memory. Copies.
NamedTensors ToTensors(const MicroBatch& batch, const ComputeDevice& device);

class BatchStream {
 public:
  BatchStream(const LoaderOptions& options, const ComputeDevice& device,
              std::unique_ptr<Loader> loader);
  // Called for one step after the other. Errors: the loader's.
  StatusOr<StepBatch> Next(int64_t step);
  const Loader& loader() const { return *loader_; }

 private:
  StatusOr<StepBatch> Read(int64_t step);

  const LoaderOptions options_;
  const ComputeDevice device_;
  std::unique_ptr<Loader> loader_;
  // Of the step after the last one; on a device.
  std::optional<StepBatch> ahead_;
};

}  // namespace weft
