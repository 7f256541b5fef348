#include "cluster/comm/pending_work.h"

#include <chrono>
#include <utility>

namespace weft {
namespace {

class PendingWork : public Work {
 public:
  PendingWork(std::shared_ptr<OpState> state, Duration timeout, DeadlinePassed deadline_passed)
      : state_(std::move(state)), timeout_(timeout), deadline_passed_(std::move(deadline_passed)) {}

  Status Wait() override {
    const TimePoint deadline = Clock::now() + timeout_;
    MutexLock lock(state_->mutex);
    while (!state_->done && Clock::now() < deadline)
      state_->changed.WaitUntil(state_->mutex, deadline);
    if (!state_->done) {
      state_->mutex.Unlock();
      deadline_passed_(*state_, timeout_);
      state_->mutex.Lock();
    }
    // The thread lets go of the buffers within moments of a failure.
    while (!state_->done)
      state_->changed.WaitUntil(state_->mutex, Clock::now() + std::chrono::seconds(1));
    return state_->status;
  }

  bool Done() override {
    MutexLock lock(state_->mutex);
    return state_->done;
  }
  const std::string& name() const override { return state_->identity.name; }
  uint64_t sequence() const override { return state_->identity.sequence; }

 private:
  const std::shared_ptr<OpState> state_;
  const Duration timeout_;
  const DeadlinePassed deadline_passed_;
};

}  // namespace

void DescribeOperation(const std::string& verb, const std::string& peer, size_t bytes,
                       const std::string& group, FlightRecorder* recorder, OpState* state) {
  const OpIdentity& identity = state->identity;
  const std::string named = identity.name.empty() ? verb : verb + " " + identity.name;
  state->what = named + " #" + std::to_string(identity.sequence);
  if (recorder != nullptr)
    state->record = recorder->Enqueued(named + peer, identity.sequence, bytes, group);
}

WorkPtr MakePendingWork(std::shared_ptr<OpState> state, Duration timeout,
                        DeadlinePassed deadline_passed) {
  return std::make_unique<PendingWork>(std::move(state), timeout, std::move(deadline_passed));
}

}  // namespace weft
