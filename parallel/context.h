// Where this rank stands: its place on the data-parallel axis, the slots that it owns, and the communicator. Values and
// collectives that depend on slots, not on ranks, go through here, so that their results are the same for every layout.
//
// Errors: those of the communicator, with the operation's name.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "parallel/data/slots.h"

namespace weft {

struct ParallelOptions {
  // The data-parallel axis; null: one rank. Not owned.
  Communicator* dp = nullptr;
  // V: virtual data-parallel ranks of a step.
  int num_slots = 1;
  // Of each collective.
  Duration timeout = std::chrono::seconds(120);
};

class ParallelContext {
 public:
  // REQUIRES: dp size <= num_slots.
  explicit ParallelContext(const ParallelOptions& options);

  int dp_rank() const { return dp_rank_; }
  int dp_size() const { return dp_size_; }
  int num_slots() const { return options_.num_slots; }
  // This rank's.
  SlotRange slots() const { return slots_; }

  // Waits for `work`, which the caller got from dp(), and counts the time.
  Status Wait(WorkPtr work);
  // REQUIRES: dp_size() > 1.
  Communicator& dp() { return *options_.dp; }
  OpOptions Op(const std::string& name) const { return {name, options_.timeout}; }

  // `own` is [own slots, ...]; the result is [num_slots, ...] in slot order, the same on every rank.
  StatusOr<at::Tensor> AllGatherSlots(const at::Tensor& own, const std::string& name);

  // Seconds that Wait has waited since the last call: what a step lost to its peers.
  double TakeWaitSeconds();

 private:
  ParallelOptions options_;
  int dp_rank_ = 0;
  int dp_size_ = 1;
  SlotRange slots_;
  double wait_seconds_ = 0;
};

}  // namespace weft
