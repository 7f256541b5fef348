// What the nccl backend needs of CUDA and NCCL, with errors as Status and owners for handles. Not for others.
//
// Errors: Unavailable with CUDA's or NCCL's own words; DeadlineExceeded where NCCL was not ready in time.
// Thread rule: Stream and Event belong to one thread; a Communication may be aborted and checked from any thread.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"

namespace weft::nccl {

Status FromCuda(cudaError_t error, const std::string& what);
// ncclInProgress is no error here: the caller polls.
Status FromNccl(ncclResult_t result, const std::string& what, ncclComm_t comm = nullptr);
ncclDataType_t TypeOf(DType dtype);
ncclRedOp_t OpOf(ReduceOp op);

// Sleeps a little longer each time.
class Pause {
 public:
  void Sleep() {
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(pause_ * 2, std::chrono::microseconds(1000));
  }

 private:
  std::chrono::microseconds pause_{20};
};

// A point of a stream: all that was on it when the event was made.
class Event {
 public:
  static StatusOr<std::shared_ptr<Event>> Record(cudaStream_t stream);
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // cudaErrorNotReady: the GPU is not there yet.
  cudaError_t Query() const { return cudaEventQuery(event_); }
  Status Synchronize() const {
    return FromCuda(cudaEventSynchronize(event_), "waiting for an event");
  }
  // What comes on the stream from now on waits for it.
  Status HoldUp(cudaStream_t stream) const;

 private:
  Event() = default;
  cudaEvent_t event_ = nullptr;
};

// A stream of its own.
class Stream {
 public:
  static StatusOr<std::unique_ptr<Stream>> Create();
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  explicit Stream(cudaStream_t stream) : stream_(stream) {}
  cudaStream_t stream_;
};

// A non-blocking ncclComm_t. What NCCL was asked for goes on in its own threads; nobody else may ask meanwhile, so every call
// here waits until NCCL is ready again.
class Communication {
 public:
  // All ranks at about the same time.
  static StatusOr<std::shared_ptr<Communication>> Init(int size, const ncclUniqueId& id, int rank,
                                                       TimePoint deadline);
  // All ranks, in the same order of splits. Null for the colour NCCL_SPLIT_NOCOLOR. `most_blocks`: of the GPU's, for a kernel;
  // 0: NCCL's choice.
  StatusOr<std::shared_ptr<Communication>> Split(int color, int key, int most_blocks,
                                                 TimePoint deadline);
  ~Communication();
  Communication(const Communication&) = delete;
  Communication& operator=(const Communication&) = delete;

  // Asks NCCL for something and waits until it has taken it: kernels are on their streams then.
  Status Call(const std::string& what, TimePoint deadline,
              const std::function<ncclResult_t(ncclComm_t)>& call);
  // NCCL's asynchronous error, or Cancelled after Abort. *ready = false: in progress.
  Status Check(const std::string& what, bool* ready);
  // Frees the GPU from kernels that wait for a peer. Nothing works afterwards. Waits for no peer, but until the kernels of all of
  // them are gone.
  static void AbortTogether(const std::vector<std::shared_ptr<Communication>>& all);

 private:
  explicit Communication(ncclComm_t comm) : comm_(comm) {}
  Status WaitUntilReady(const std::string& what, TimePoint deadline);
  // Null if another has taken it to abort it.
  ncclComm_t Take() {
    MutexLock lock(mutex_);
    return std::exchange(comm_, nullptr);
  }

  Mutex mutex_;
  ncclComm_t comm_ WEFT_GUARDED_BY(mutex_);  // null once aborted
  // Where NCCL writes the communicators split from this one, maybe after a deadline.
  std::vector<std::unique_ptr<ncclComm_t>> made_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft::nccl
