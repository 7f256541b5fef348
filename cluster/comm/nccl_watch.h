// What an nccl communicator has under way, and the thread that looks after it: streams go on by themselves, so somebody has to
// notice that they do not.
//
// The thread polls: the events, NCCL's own error (ncclCommGetAsyncError) and the deadline, which for an operation of a stream
// runs from when the stream has come to it (for one of the host from its Wait). On an error or past a deadline it aborts the
// communicator and its family: kernels that wait for a peer end, so the GPU's streams go on, with numbers that mean nothing,
// and the host learns of it at the next Wait, failure() or Done. First cause wins.
//
// Shared by the communicator and its Works, which may outlive it. Errors: communicator.h's. Thread rule: any thread may call
// anything; what an Operation holds beside `mutex_`'s part is constant once it has been added.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/nccl_family.h"

namespace weft::nccl {

// An operation between its call and its end.
struct Operation {
  std::string name;
  std::string what;  // "all_reduce grads #5"
  uint64_t sequence = 0;
  uint64_t record = 0;
  Duration timeout;
  // OpOptions.stream; null: the host called and waits.
  cudaStream_t callers = nullptr;
  std::shared_ptr<Communication> communication;
  // What had to be done first is done; null: nothing had to.
  std::shared_ptr<Event> begun;
  // It is done itself; null: it never came to its stream.
  std::shared_ptr<Event> done;

  // The watch's mutex guards these.
  bool has_begun = false;
  TimePoint began;
  bool ended = false;
  Status status;
};
using OperationPtr = std::shared_ptr<Operation>;

class Watch {
 public:
  // `own`: of this communicator, becomes part of the family. `recorder`: optional; must outlive the communicator.
  Watch(int device, std::shared_ptr<Family> family, Communications own, FlightRecorder* recorder);
  ~Watch() { Stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // From now on `operation`, which is on its stream, is looked after.
  void Add(const OperationPtr& operation);
  // An operation that never came to its stream: ends it and the communicator.
  void AddFailed(const OperationPtr& operation, const Status& status);
  // The family's first failure noticed so far, or OK.
  Status failure() const { return family_->failure(); }
  // The same, after a look at all that is under way.
  Status LookAtAll();
  // Aborts, unless something else has before. Kernels have let go of their buffers when it returns.
  void Fail(const Status& reason);
  // Whether the operation is done or failed by now.
  bool HasEnded(const OperationPtr& operation);
  // Blocks until it is; past the timeout it fails.
  Status WaitForEnd(const OperationPtr& operation);
  // Of an operation that has ended: so that CUDA, too, counts the caller as having waited.
  Status EndOf(const OperationPtr& operation);
  // The oldest operation that its stream has come to, or else the oldest; "" if none.
  std::string CurrentOperation() const;
  // For the end of the communicator: fails what is not done and gives up the recorder and the thread.
  void Stop();

 private:
  void Run();
  void NoteBegin(Operation* operation) WEFT_REQUIRES(mutex_);
  void EndLocked(Operation* operation, const Status& status) WEFT_REQUIRES(mutex_);
  void NoteEnd(const OperationPtr& operation);

  const int device_;
  const std::shared_ptr<Family> family_;
  const Communications own_;

  mutable Mutex mutex_;
  CondVar changed_;
  FlightRecorder* recorder_ WEFT_GUARDED_BY(mutex_);
  std::vector<OperationPtr> under_way_ WEFT_GUARDED_BY(mutex_);
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // last: starts when all of the above is there
};

}  // namespace weft::nccl
