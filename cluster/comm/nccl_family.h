// The communicators of a rank that end together: those of a mesh, with their lanes.
//
// Aborting a communicator frees memory of the GPU, and CUDA waits with that for every kernel on the GPU: one that waits for a dead
// peer on another communicator would hold it up for ever. So all are aborted in one group (ncclGroupStart), which tells all
// kernels to end first; and a failure on one axis is the failure of all.
//
// Thread rule: any thread.
#pragma once

#include <memory>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/comm/nccl_calls.h"

namespace weft::nccl {

using Communications = std::vector<std::shared_ptr<Communication>>;

class Family {
 public:
  void Add(const Communications& members);
  // Ends all of them; first cause wins. Their kernels have let go of all buffers when it returns, also for the second caller.
  void Abort(const Status& reason);
  // Frees some, on which nothing is under way.
  void Remove(const Communications& members);
  Status failure() const;

 private:
  Mutex aborting_;  // held as long as kernels may still run
  mutable Mutex mutex_;
  Communications members_ WEFT_GUARDED_BY(mutex_);
  Status failure_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft::nccl
