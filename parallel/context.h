// Where this rank stands: its place on the three axes of the mesh, the slots that it owns, and the communicators. Values
// and collectives that depend on slots, not on ranks, go through here, so that their results are the same for every layout.
//
// Errors: those of the communicator, with the operation's name.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "parallel/data/slots.h"
#include "parallel/device/compute_device.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

struct ParallelOptions {
  // One axis each; null: one rank. Not owned.
  Communicator* dp = nullptr;
  Communicator* tp = nullptr;
  Communicator* pp = nullptr;
  // V: virtual data-parallel ranks of a step.
  int num_slots = 1;
  SlotOrder slot_order = SlotOrder::kContiguous;
  // Neighbouring dp ranks that share one copy of what is sharded; 0: all of them.
  int shard_ranks = 0;
  // false: gradients are summed by the backend's own collective, in whatever order it has.
  bool deterministic = true;
  // Splits the rows between tensor-parallel layers over tp.
  bool sequence_parallel = false;
  // Where tensors are.
  ComputeDevice device;
  // Of each collective.
  Duration timeout = std::chrono::seconds(120);
};

class ParallelContext {
 public:
  // REQUIRES: dp size <= num_slots.
  explicit ParallelContext(const ParallelOptions& options);

  int dp_rank() const { return RankOf(options_.dp); }
  int dp_size() const { return SizeOf(options_.dp); }
  int tp_rank() const { return RankOf(options_.tp); }
  int tp_size() const { return SizeOf(options_.tp); }
  int pp_rank() const { return RankOf(options_.pp); }
  int pp_size() const { return SizeOf(options_.pp); }
  bool sequence_parallel() const { return options_.sequence_parallel && tp_size() > 1; }

  int num_slots() const { return options_.num_slots; }
  SlotOrder slot_order() const { return options_.slot_order; }
  bool deterministic() const { return options_.deterministic; }
  const ComputeDevice& device() const { return options_.device; }
  // What is sharded over dp lies in so many shards; dp rank r has number r % shards.
  int shards() const { return options_.shard_ranks == 0 ? dp_size() : options_.shard_ranks; }
  int shard() const { return dp_rank() % shards(); }
  // This rank's, ascending.
  const std::vector<int>& slots() const { return slots_; }
  // What layers are made with.
  TensorAxis tensor() const;

  // Waits for `work`, which the caller got from one of the communicators, and counts the time. On a device the compute stream
  // waits, not the host.
  Status Wait(WorkPtr work);
  // For the owner of an operation's buffers that will not wait for its result: what is not done fails, on all axes, as the
  // step is lost. Returns when the backends have let go of the buffers. Null: nothing.
  void Abandon(WorkPtr work);
  // Of the computation, brought to the host. On a device this waits for all exchanges that the numbers come from, and fails
  // with the communicators if one of them did.
  StatusOr<at::Tensor> ToHost(const at::Tensor& tensor) const;
  // REQUIRES: the axis has more than one rank.
  Communicator& dp() { return *options_.dp; }
  Communicator& tp() { return *options_.tp; }
  Communicator& pp() { return *options_.pp; }
  // Buffers of such an operation are where the rank computes.
  OpOptions Op(const std::string& name) const {
    return {name, options_.timeout, options_.device.stream()};
  }

  // `own` is [own slots, ...]; the result is [num_slots, ...] in slot order, the same on every dp rank. The host's numbers
  // come back to the host.
  StatusOr<at::Tensor> AllGatherSlots(const at::Tensor& own, const std::string& name);
  // Shards of `bytes` each from the ranks that share a copy: `all` holds shards() of them. REQUIRES: shards() > 1.
  WorkPtr AllGatherShards(const void* own, void* all, size_t bytes, const std::string& name);
  // Numbers of the host over the whole world, axis by axis, in place.
  Status AllReduceWorld(int64_t* data, size_t count, ReduceOp op, const std::string& name);

  // Seconds that Wait has waited since the last call, by the operations' names, and all of them: what a step lost to its
  // peers.
  std::map<std::string, double> TakeWaits();
  double TakeWaitSeconds();

 private:
  static int RankOf(const Communicator* axis) { return axis == nullptr ? 0 : axis->rank(); }
  static int SizeOf(const Communicator* axis) { return axis == nullptr ? 1 : axis->size(); }

  ParallelOptions options_;
  std::vector<int> slots_;
  std::map<std::string, double> waits_;
};

}  // namespace weft
