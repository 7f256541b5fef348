#include "cluster/comm/progress_thread.h"

#include <algorithm>
#include <utility>

#include "cluster/base/text.h"

namespace weft {
namespace {

void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ProgressThread::ProgressThread(const Members& members, std::unique_ptr<Sleeper> sleeper,
                               FlightRecorder* recorder, int spins)
    : members_(members),
      sleeper_(std::move(sleeper)),
      recorder_(recorder),
      spins_(spins),
      lanes_(members),
      thread_([this] { ThreadMain(); }) {}

ProgressThread::~ProgressThread() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (outstanding_ > 0)
      FailLocked(Cancelled("the communicator was destroyed before its operations were done"), -1);
  }
  sleeper_->Wake();
  thread_.join();
}

// ---------------------------------------------------------------- from any thread

void ProgressThread::Submit(Operation operation) {
  const std::shared_ptr<OpState> state = operation.state;
  bool wake = false;
  Status failure;
  {
    MutexLock lock(mutex_);
    failure = failure_;
    if (failure.ok()) {
      queue_.push_back(std::move(operation));
      ++outstanding_;
      arrived_ = true;
      wake = std::exchange(dozing_, false);
    }
  }
  if (!failure.ok()) {
    if (recorder_ != nullptr) recorder_->Ended(state->record, false);
    state->Finish(failure);
  }
  if (wake) sleeper_->Wake();
}

Status ProgressThread::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

std::string ProgressThread::CurrentOperation() const {
  MutexLock lock(mutex_);
  return Describe(under_way_);
}

void ProgressThread::DeadlinePassed(const OpState& state, Duration timeout) {
  std::string message;
  {
    MutexLock lock(mutex_);
    message = DescribeDeadline(under_way_, state, timeout);
  }
  Fail(DeadlineExceeded(message), -1);
}

void ProgressThread::Fail(const Status& reason, int lost_rank) {
  {
    MutexLock lock(mutex_);
    FailLocked(reason, lost_rank);
  }
  sleeper_->Wake();
}

void ProgressThread::FailLocked(const Status& reason, int lost_rank) {
  if (!failure_.ok()) return;
  failure_ = reason;
  lost_rank_ = lost_rank;
  failed_ = true;
}

// ---------------------------------------------------------------- the thread

void ProgressThread::ThreadMain() {
  for (;;) {
    if (failed_) AfterFailure();
    TakeNew();
    if (!lanes_.empty()) {
      StepLanes();
      continue;
    }
    if (collective_.has_value()) {
      ExecuteCollective();
      continue;
    }
    if (MayDoze()) {
      PollOnce();
      NoteLostLinks([](int) { return false; });
      continue;
    }
    MutexLock lock(mutex_);
    if (stopping_ && queue_.empty()) break;
  }
  if (failed_) return;
  for (const auto& link : members_.links) {
    if (link != nullptr) link->SendBye();
  }
}

void ProgressThread::TakeNew() {
  if (collective_.has_value() || !arrived_.exchange(false)) return;
  {
    MutexLock lock(mutex_);
    while (!queue_.empty() && !collective_.has_value()) {
      if (queue_.front().collective) {
        collective_ = std::move(queue_.front());
      } else {
        lanes_.Push(std::move(queue_.front()));
      }
      queue_.pop_front();
    }
    if (!queue_.empty()) arrived_ = true;
  }
  NoteLanes();
}

void ProgressThread::ExecuteCollective() {
  const Operation operation = *std::exchange(collective_, std::nullopt);
  OpState& state = *operation.state;
  Begin(operation.state);
  Status status = failed_ ? failure() : operation.collective(state.identity);
  if (!status.ok()) {
    Fail(status, -1);
    status = failure();  // the first cause
    AfterFailure();
  }
  End(state, status);
}

void ProgressThread::StepLanes() {
  const bool progress = lanes_.Advance();
  NoteLanes();
  if (!lanes_.error().ok()) {
    Fail(lanes_.error(), -1);
  } else if (progress) {
    looks_ = 0;
  } else if (looks_ < spins_) {
    ++looks_;
    CpuRelax();
  } else {
    looks_ = 0;
    SleepOnLanes();
  }
}

void ProgressThread::SleepOnLanes() {
  sleeper_->SetSleeping(true);
  // Once more, now that peers ring: what came before has rung no bell.
  const bool progress = lanes_.Advance();
  NoteLanes();
  // A lost peer counts only here: what it had written before is taken.
  if (!progress) NoteLostLinks([this](int peer) { return lanes_.Needs(peer); });
  if (!progress && !failed_ && MayDoze()) {
    {
      MutexLock lock(mutex_);
      for (UnderWay& one : under_way_) one.waiting_for = members_.Name(one.state->peer);
    }
    PollOnce();
  }
  sleeper_->SetSleeping(false);
}

void ProgressThread::NoteLanes() {
  for (const auto& state : lanes_.TakeStarted()) Begin(state);
  for (const auto& state : lanes_.TakeDone()) End(*state, OkStatus());
}

void ProgressThread::Begin(const std::shared_ptr<OpState>& state) {
  if (recorder_ != nullptr) recorder_->Started(state->record);
  MutexLock lock(mutex_);
  under_way_.push_back({.state = state, .waiting_for = ""});
}

void ProgressThread::End(OpState& state, const Status& status) {
  {
    MutexLock lock(mutex_);
    Remove(state, &under_way_);
    --outstanding_;
  }
  if (recorder_ != nullptr) recorder_->Ended(state.record, status.ok());
  state.Finish(status);
}

void ProgressThread::AfterFailure() {
  Status reason;
  int lost_rank = -1;
  std::deque<Operation> pending;
  {
    MutexLock lock(mutex_);
    reason = failure_;
    lost_rank = lost_rank_;
    pending.swap(queue_);
  }
  if (!std::exchange(told_peers_, true)) {
    for (const auto& link : members_.links) {
      if (link != nullptr) link->SendFailed(lost_rank, reason.ToString());
    }
  }
  for (const auto& state : lanes_.Clear()) End(*state, reason);
  if (collective_.has_value()) End(*collective_->state, reason);
  collective_.reset();
  for (const Operation& operation : pending) End(*operation.state, reason);
}

bool ProgressThread::MayDoze() {
  MutexLock lock(mutex_);
  // Behind a collective that waits for the lanes nothing can be used.
  if (stopping_ || (!collective_.has_value() && !queue_.empty())) return false;
  dozing_ = !collective_.has_value();
  return true;
}

Status ProgressThread::Run(Exchange& exchange) {
  int looks = 0;
  for (;;) {
    if (failed_) return failure();
    const bool progress = exchange.Advance();
    WEFT_RETURN_IF_ERROR(exchange.error());
    if (exchange.done()) return OkStatus();
    if (progress) {
      looks = 0;
    } else if (looks < spins_) {
      ++looks;
      CpuRelax();
    } else {
      looks = 0;
      WEFT_RETURN_IF_ERROR(SleepUntilNews(exchange));
    }
  }
}

Status ProgressThread::SleepUntilNews(Exchange& exchange) {
  sleeper_->SetSleeping(true);
  // As in SleepOnLanes.
  const bool progress = exchange.Advance();
  if (!progress) NoteLostLinks([&](int peer) { return exchange.Needs(peer); });
  if (progress || failed_) {
    sleeper_->SetSleeping(false);
    return failure();
  }
  std::vector<std::string> peers;
  for (const int peer : exchange.NeededPeers())
    peers.push_back(std::to_string(members_.WorldRank(peer)));
  {
    MutexLock lock(mutex_);
    if (!peers.empty())
      under_way_.front().waiting_for = (peers.size() == 1 ? "rank " : "ranks ") + Join(peers, ", ");
  }
  PollOnce();
  sleeper_->SetSleeping(false);
  return OkStatus();
}

void ProgressThread::NoteLostLinks(const PeerIsNeeded& needed) {
  for (const auto& link : members_.links) {
    if (link == nullptr || link->state() == Link::State::kOpen) continue;
    if (link->state() == Link::State::kLeft && !needed(link->peer())) continue;
    const int lost = link->lost_rank();
    // The news of a rank's death may come back to that rank when it is only slow: it is not dead to
    // itself.
    Fail(link->reason(), lost == members_.WorldRank(members_.rank) ? -1 : lost);
    return;
  }
}

void ProgressThread::PollOnce() {
  poll_fds_.assign(1, {.fd = sleeper_->poll_fd(), .events = POLLIN, .revents = 0});
  polled_links_.assign(1, nullptr);
  for (const auto& link : members_.links) {
    if (link == nullptr || link->poll_events() == 0) continue;
    poll_fds_.push_back({.fd = link->fd(), .events = link->poll_events(), .revents = 0});
    polled_links_.push_back(link.get());
  }
  if (poll(poll_fds_.data(), poll_fds_.size(), -1) <= 0) return;
  if (poll_fds_[0].revents != 0) sleeper_->Drain();
  for (size_t i = 1; i < poll_fds_.size(); ++i) {
    if (poll_fds_[i].revents != 0) polled_links_[i]->Pump();
  }
}

}  // namespace weft
