// The micro-batches of a step on their way to where the rank computes. On a device they are copied on a stream of their own,
// from pinned memory and all at once, while the computation is still busy with what came before; Take makes it wait for one.
//
// The host's tensors stay: counts of targets are taken from them without asking the device.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <optional>
#include <span>
#include <vector>

#include "parallel/device/compute_device.h"
#include "parallel/engine/block.h"

namespace weft {

class StepInputs {
 public:
  StepInputs() = default;
  // Own slots in order, the micro-batches of each, in the host's memory. Starts the copies.
  StepInputs(const ComputeDevice& device, std::vector<NamedTensors> host);

  const std::vector<NamedTensors>& host() const { return host_; }
  // Number `index` where the rank computes; what is put on the compute stream afterwards finds it there.
  const NamedTensors& Take(size_t index);

 private:
  // On the copy stream; what the copy makes may be used and freed on the compute stream.
  void StartCopy(const NamedTensors& micro_batch);

  ComputeDevice device_;
  std::vector<NamedTensors> host_;
  // Empty on the host.
  std::vector<NamedTensors> copies_;
  std::vector<std::optional<c10::Event>> copied_;
};

}  // namespace weft
