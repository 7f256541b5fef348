// The losses that blocks compute: their weights, known before the first backward from the targets of all slots, and their
// values, summed over slots in the slot tree.
//
// Errors: those of the communicator. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "cluster/base/status.h"
#include "parallel/context.h"
#include "parallel/engine/objective.h"

namespace weft {

class LossMeter {
 public:
  // Those of the losses that this rank's stages compute; the same on all dp and tp ranks of a stage.
  LossMeter(std::vector<const LossOutput*> losses, int micro_batches, ParallelContext* context);

  // Counts the targets of own micro-batches and exchanges the counts over dp. `inputs`: own slots in order, the micro-
  // batches of each. A collective.
  Status Begin(std::span<const NamedTensors> inputs);
  // By own micro-batch number.
  double Weight(const LossOutput& loss, int micro_batch) const;
  // As the loss counts them; -1: a loss of another stage.
  int64_t Targets(const LossOutput& loss, int micro_batch) const;
  // Keeps the sum; nothing waits for a device here.
  void Add(const LossOutput& loss, int micro_batch, const at::Tensor& sum);
  // In the order of the losses; the same bits for every dp. A collective.
  StatusOr<std::vector<LossTerm>> Finish();

  bool empty() const { return losses_.empty(); }

 private:
  size_t IndexOf(const LossOutput& loss) const;
  StatusOr<at::Tensor> TakeSums() const;

  std::vector<const LossOutput*> losses_;
  int micro_batches_;
  ParallelContext* context_;
  // [own micro-batch][loss]
  std::vector<std::vector<double>> weights_;
  std::vector<std::vector<int64_t>> targets_;
  std::vector<std::vector<at::Tensor>> sums_;
};

}  // namespace weft
