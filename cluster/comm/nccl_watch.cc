#include "cluster/comm/nccl_watch.h"

#include <utility>

#include "cluster/base/text.h"

namespace weft::nccl {
namespace {

// How often the thread looks while something is under way. A host that waits looks by itself, more often.
constexpr auto kLookEvery = std::chrono::milliseconds(2);
constexpr auto kLongTime = std::chrono::hours(1);

Status TooLate(const Operation& operation) {
  return DeadlineExceeded(operation.what + ": not done after " +
                          HumanSeconds(ToSeconds(operation.timeout)));
}

}  // namespace

Watch::Watch(int device, std::shared_ptr<Family> family, Communications own,
             FlightRecorder* recorder)
    : device_(device),
      family_(std::move(family)),
      own_(std::move(own)),
      recorder_(recorder),
      thread_([this] { Run(); }) {
  family_->Add(own_);
}

void Watch::Run() {
  cudaSetDevice(device_);  // if it fails, so does what is asked of it
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (under_way_.empty()) {
      changed_.WaitUntil(mutex_, Clock::now() + kLongTime);
      continue;
    }
    mutex_.Unlock();
    static_cast<void>(LookAtAll());  // what it finds stays
    mutex_.Lock();
    if (!stopping_) changed_.WaitUntil(mutex_, Clock::now() + kLookEvery);
  }
}

void Watch::Add(const OperationPtr& operation) {
  MutexLock lock(mutex_);
  under_way_.push_back(operation);
  NoteBegin(operation.get());
  if (under_way_.size() == 1) changed_.NotifyAll();
}

void Watch::AddFailed(const OperationPtr& operation, const Status& status) {
  Fail(status);
  const Status cause = failure();
  MutexLock lock(mutex_);
  EndLocked(operation.get(), cause);
}

Status Watch::LookAtAll() {
  std::vector<OperationPtr> operations;
  {
    MutexLock lock(mutex_);
    operations = under_way_;
  }
  for (const OperationPtr& operation : operations) {
    if (HasEnded(operation) || operation->callers == nullptr) continue;
    bool late = false;
    {
      MutexLock lock(mutex_);
      late = operation->has_begun && Clock::now() >= operation->began + operation->timeout;
    }
    if (late) Fail(TooLate(*operation));
  }
  return failure();
}

bool Watch::HasEnded(const OperationPtr& operation) {
  {
    MutexLock lock(mutex_);
    if (operation->ended) return true;
    NoteBegin(operation.get());
  }
  // The event first: it comes for a kernel that gave up, too, and then NCCL knows why.
  const cudaError_t state = operation->done->Query();
  bool ready = false;
  Status status = operation->communication->Check(operation->what, &ready);
  if (status.ok() && state != cudaErrorNotReady) status = FromCuda(state, operation->what);
  if (!status.ok()) Fail(status);
  if (state == cudaErrorNotReady && status.ok()) return false;
  NoteEnd(operation);
  return true;
}

void Watch::NoteEnd(const OperationPtr& operation) {
  const Status cause = failure();
  MutexLock lock(mutex_);
  if (operation->ended) return;
  EndLocked(operation.get(), cause);
  std::erase(under_way_, operation);
}

void Watch::Fail(const Status& reason) {
  // Operations end after their kernels have: who waits for them may use the buffers again.
  family_->Abort(reason);
  const Status cause = family_->failure();
  MutexLock lock(mutex_);
  for (const OperationPtr& operation : std::exchange(under_way_, {}))
    EndLocked(operation.get(), cause);
}

void Watch::NoteBegin(Operation* operation) {
  if (operation->has_begun) return;
  if (operation->begun != nullptr && operation->begun->Query() == cudaErrorNotReady) return;
  operation->has_begun = true;
  operation->began = Clock::now();
  if (recorder_ != nullptr) recorder_->Started(operation->record);
}

void Watch::EndLocked(Operation* operation, const Status& status) {
  operation->ended = true;
  operation->status = status;
  if (recorder_ != nullptr) recorder_->Ended(operation->record, status.ok());
}

Status Watch::WaitForEnd(const OperationPtr& operation) {
  const TimePoint deadline = Clock::now() + operation->timeout;
  Pause pause;
  while (!HasEnded(operation)) {
    if (Clock::now() >= deadline) {
      Fail(TooLate(*operation));
    } else {
      pause.Sleep();
    }
  }
  return EndOf(operation);
}

Status Watch::EndOf(const OperationPtr& operation) {
  Status status;
  {
    MutexLock lock(mutex_);
    status = operation->status;
  }
  // The thread has seen the end for the caller, who knows it only now.
  if (status.ok()) status = operation->done->Synchronize();
  return status;
}

std::string Watch::CurrentOperation() const {
  MutexLock lock(mutex_);
  std::string oldest;
  for (const OperationPtr& operation : under_way_) {
    if (operation->done->Query() != cudaErrorNotReady) continue;
    if (operation->begun == nullptr || operation->begun->Query() != cudaErrorNotReady)
      return operation->what;
    if (oldest.empty()) oldest = operation->what + " (its stream has not come to it)";
  }
  return oldest;
}

void Watch::Stop() {
  static_cast<void>(LookAtAll());
  if (!CurrentOperation().empty())
    Fail(Cancelled("the communicator was destroyed before its operations were done"));
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    recorder_ = nullptr;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  // Frees as ncclCommDestroy does, but waits for no peer.
  family_->Remove(own_);
}

}  // namespace weft::nccl
