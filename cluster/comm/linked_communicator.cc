#include "cluster/comm/linked_communicator.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "cluster/comm/exchange.h"

namespace weft {
namespace {

// An all_reduce whose data, times ranks, is at most this goes to everybody in one round.
constexpr size_t kFlatAllReduceBytes = 64 << 10;
constexpr size_t kScatteredBroadcastBytes = 64 << 10;
// Chunks of a rank are multiples of this many elements (a cache line or more of any type).
constexpr size_t kChunkElements = 64;

void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Shared by the Work that the caller holds and the operation in the queue.
struct OpState {
  OpIdentity identity;
  std::string what;  // "all_reduce grads #5"
  uint64_t record = 0;
  Mutex mutex;
  CondVar changed;
  bool done WEFT_GUARDED_BY(mutex) = false;
  Status status WEFT_GUARDED_BY(mutex);

  void Finish(const Status& result) {
    MutexLock lock(mutex);
    done = true;
    status = result;
    changed.NotifyAll();
  }
};

struct ElementRange {
  size_t begin;
  size_t count;
};

// Rank r's chunk of `count` elements.
ElementRange ChunkOf(size_t count, int ranks, int r) {
  const size_t per_rank = (count + static_cast<size_t>(ranks) - 1) / static_cast<size_t>(ranks);
  const size_t chunk = (per_rank + kChunkElements - 1) / kChunkElements * kChunkElements;
  const size_t begin = std::min(count, chunk * static_cast<size_t>(r));
  return {.begin = begin, .count = std::min(chunk, count - begin)};
}

class LinkedCommunicator : public Communicator {
 public:
  explicit LinkedCommunicator(LinkedCommunicatorParts parts)
      : rank_(parts.rank),
        links_(std::move(parts.links)),
        sleeper_(std::move(parts.sleeper)),
        recorder_(parts.recorder),
        spins_(parts.spins),
        sends_to_(links_.size(), 0),
        receives_from_(links_.size(), 0),
        thread_([this] { ThreadMain(); }) {}

  ~LinkedCommunicator() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      if (!queue_.empty() || !current_.empty()) {
        FailLocked(Cancelled("the communicator was destroyed before its operations were done"), -1);
      }
    }
    sleeper_->Wake();
    thread_.join();
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(links_.size()); }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override;
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override;
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override;
  WorkPtr Broadcast(void* data, size_t bytes, int root, const OpOptions& options) override;
  WorkPtr AllToAll(const std::vector<SendBuffer>& send, const std::vector<RecvBuffer>& recv,
                   const OpOptions& options) override;
  WorkPtr Send(const void* data, size_t bytes, int peer, const OpOptions& options) override;
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override;
  WorkPtr Barrier(const OpOptions& options) override;

  void Abort(const Status& reason) override {
    WEFT_CHECK(!reason.ok()) << "Abort needs a reason";
    Fail(reason, -1);
  }

  Status failure() const override {
    MutexLock lock(mutex_);
    return failure_;
  }

  std::string CurrentOperation() const override {
    MutexLock lock(mutex_);
    return current_.empty() || waiting_for_.empty() ? current_
                                                    : current_ + ", waiting for " + waiting_for_;
  }

 private:
  friend class LinkedWork;
  // Runs on the thread; uses only the identity and what it captured.
  using Body = std::function<Status(const OpIdentity&)>;
  struct Operation {
    std::shared_ptr<OpState> state;
    Body body;
  };

  OpIdentity Collective(OpKind kind, const OpOptions& options) {
    return {.kind = kind, .sequence = ++collectives_, .name = options.name};
  }
  WorkPtr Enqueue(OpIdentity identity, const char* verb, size_t bytes, const OpOptions& options,
                  Body body);
  void DeadlinePassed(const OpState& state, Duration timeout);
  void Fail(const Status& reason, int lost_rank);
  void FailLocked(const Status& reason, int lost_rank) WEFT_REQUIRES(mutex_);

  // On the thread.
  void ThreadMain();
  bool NextOperation(Operation* operation);
  void Execute(Operation& operation);
  void AfterFailure();
  Status Run(Exchange& exchange);
  Status SleepUntilNews(Exchange& exchange);
  // Fails with the first link that is lost, or that was closed in order while `exchange` needs it.
  void NoteLostLinks(const Exchange* exchange);
  void PollOnce();
  Status RunFlatAllReduce(const OpIdentity& id, void* data, size_t count, DType dtype, ReduceOp op);
  Status RunChunkedAllReduce(const OpIdentity& id, std::byte* data, size_t count, DType dtype,
                             ReduceOp op);
  Status RunBroadcast(const OpIdentity& id, std::byte* data, size_t bytes, int root);
  Status RunScatteredBroadcast(const OpIdentity& id, std::byte* data, size_t bytes, int root);

  // Calls `visit(peer)` for all others, the next higher rank first, so that not everybody starts
  // with rank 0.
  template <typename Visit>
  void ForEachPeer(const Visit& visit) const {
    for (int i = 1; i < size(); ++i) visit((rank_ + i) % size());
  }

  // Constant after construction.
  const int rank_;
  const std::vector<std::unique_ptr<Link>> links_;  // the links themselves belong to the thread
  const std::unique_ptr<Sleeper> sleeper_;
  FlightRecorder* const recorder_;
  const int spins_;

  // The caller's thread only.
  uint64_t collectives_ = 0;
  std::vector<uint64_t> sends_to_;
  std::vector<uint64_t> receives_from_;

  // The communicator's thread only.
  std::vector<pollfd> poll_fds_;
  std::vector<Link*> polled_links_;
  std::vector<std::byte> scratch_;
  bool told_peers_ = false;

  std::atomic<bool> failed_ = false;  // failure_ is set
  mutable Mutex mutex_;
  std::deque<Operation> queue_ WEFT_GUARDED_BY(mutex_);
  bool idle_ WEFT_GUARDED_BY(mutex_) = false;
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  Status failure_ WEFT_GUARDED_BY(mutex_);
  int lost_rank_ WEFT_GUARDED_BY(mutex_) = -1;
  std::string current_ WEFT_GUARDED_BY(mutex_);
  std::string waiting_for_ WEFT_GUARDED_BY(mutex_);

  std::thread thread_;  // last: starts when all of the above is there
};

class LinkedWork : public Work {
 public:
  LinkedWork(LinkedCommunicator* communicator, std::shared_ptr<OpState> state, Duration timeout)
      : communicator_(communicator), state_(std::move(state)), timeout_(timeout) {}

  Status Wait() override {
    const TimePoint deadline = Clock::now() + timeout_;
    MutexLock lock(state_->mutex);
    while (!state_->done && Clock::now() < deadline)
      state_->changed.WaitUntil(state_->mutex, deadline);
    if (!state_->done) {
      state_->mutex.Unlock();
      communicator_->DeadlinePassed(*state_, timeout_);
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
  LinkedCommunicator* const communicator_;
  const std::shared_ptr<OpState> state_;
  const Duration timeout_;
};

// ---------------------------------------------------------------- calls

WorkPtr LinkedCommunicator::AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                                      const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kAllReduce, options);
  id.dtype = static_cast<uint8_t>(dtype);
  id.reduce_op = static_cast<uint8_t>(op);
  const size_t bytes = count * DTypeSize(dtype);
  const bool flat = bytes * static_cast<size_t>(size()) <= kFlatAllReduceBytes;
  return Enqueue(
      std::move(id), "all_reduce", bytes, options, [=, this](const OpIdentity& identity) {
        return flat
                   ? RunFlatAllReduce(identity, data, count, dtype, op)
                   : RunChunkedAllReduce(identity, static_cast<std::byte*>(data), count, dtype, op);
      });
}

WorkPtr LinkedCommunicator::AllGather(const void* send, void* recv, size_t count, DType dtype,
                                      const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kAllGather, options);
  id.dtype = static_cast<uint8_t>(dtype);
  const size_t bytes = count * DTypeSize(dtype);
  return Enqueue(std::move(id), "all_gather", bytes, options,
                 [=, this](const OpIdentity& identity) {
                   auto* out = static_cast<std::byte*>(recv);
                   Exchange exchange(links_, rank_, identity, 0);
                   ForEachPeer([&](int peer) {
                     exchange.Send(peer, send, bytes);
                     exchange.Receive(peer, out + static_cast<size_t>(peer) * bytes, bytes);
                   });
                   std::byte* own = out + static_cast<size_t>(rank_) * bytes;
                   if (bytes > 0 && own != send) std::memmove(own, send, bytes);
                   return Run(exchange);
                 });
}

WorkPtr LinkedCommunicator::ReduceScatter(const void* send, void* recv, size_t count, DType dtype,
                                          ReduceOp op, const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kReduceScatter, options);
  id.dtype = static_cast<uint8_t>(dtype);
  id.reduce_op = static_cast<uint8_t>(op);
  const size_t bytes = count * DTypeSize(dtype);
  return Enqueue(
      std::move(id), "reduce_scatter", bytes, options, [=, this](const OpIdentity& identity) {
        const auto* in = static_cast<const std::byte*>(send);
        Exchange exchange(links_, rank_, identity, 0);
        ForEachPeer(
            [&](int peer) { exchange.Send(peer, in + static_cast<size_t>(peer) * bytes, bytes); });
        exchange.Reduce(in + static_cast<size_t>(rank_) * bytes, recv, count, dtype, op);
        return Run(exchange);
      });
}

WorkPtr LinkedCommunicator::Broadcast(void* data, size_t bytes, int root,
                                      const OpOptions& options) {
  WEFT_CHECK(root >= 0 && root < size()) << "root " << root << " of " << size();
  return Enqueue(Collective(OpKind::kBroadcast, options), "broadcast", bytes, options,
                 [=, this](const OpIdentity& identity) {
                   return RunBroadcast(identity, static_cast<std::byte*>(data), bytes, root);
                 });
}

WorkPtr LinkedCommunicator::AllToAll(const std::vector<SendBuffer>& send,
                                     const std::vector<RecvBuffer>& recv,
                                     const OpOptions& options) {
  const auto ranks = static_cast<size_t>(size());
  const auto me = static_cast<size_t>(rank_);
  WEFT_CHECK_EQ(send.size(), ranks);
  WEFT_CHECK_EQ(recv.size(), ranks);
  WEFT_CHECK_EQ(send[me].bytes, recv[me].bytes) << "own part";
  size_t bytes = 0;
  for (const SendBuffer& buffer : send) bytes += buffer.bytes;
  return Enqueue(Collective(OpKind::kAllToAll, options), "all_to_all", bytes, options,
                 [this, send, recv, me](const OpIdentity& identity) {
                   Exchange exchange(links_, rank_, identity, 0);
                   ForEachPeer([&](int peer) {
                     const auto p = static_cast<size_t>(peer);
                     exchange.Send(peer, send[p].data, send[p].bytes);
                     exchange.Receive(peer, recv[p].data, recv[p].bytes);
                   });
                   if (send[me].bytes > 0)
                     std::memmove(recv[me].data, send[me].data, send[me].bytes);
                   return Run(exchange);
                 });
}

WorkPtr LinkedCommunicator::Send(const void* data, size_t bytes, int peer,
                                 const OpOptions& options) {
  WEFT_CHECK(peer >= 0 && peer < size() && peer != rank_) << "peer " << peer << " of " << size();
  OpIdentity id{.kind = OpKind::kPointToPoint,
                .sequence = ++sends_to_[static_cast<size_t>(peer)],
                .name = options.name};
  return Enqueue(std::move(id), "send", bytes, options, [=, this](const OpIdentity& identity) {
    Exchange exchange(links_, rank_, identity, 0);
    exchange.Send(peer, data, bytes);
    return Run(exchange);
  });
}

WorkPtr LinkedCommunicator::Recv(void* data, size_t bytes, int peer, const OpOptions& options) {
  WEFT_CHECK(peer >= 0 && peer < size() && peer != rank_) << "peer " << peer << " of " << size();
  OpIdentity id{.kind = OpKind::kPointToPoint,
                .sequence = ++receives_from_[static_cast<size_t>(peer)],
                .name = options.name};
  return Enqueue(std::move(id), "recv", bytes, options, [=, this](const OpIdentity& identity) {
    Exchange exchange(links_, rank_, identity, 0);
    exchange.Receive(peer, data, bytes);
    return Run(exchange);
  });
}

WorkPtr LinkedCommunicator::Barrier(const OpOptions& options) {
  return Enqueue(Collective(OpKind::kBarrier, options), "barrier", 0, options,
                 [this](const OpIdentity& identity) {
                   Exchange exchange(links_, rank_, identity, 0);
                   ForEachPeer([&](int peer) {
                     exchange.Send(peer, nullptr, 0);
                     exchange.Receive(peer, nullptr, 0);
                   });
                   return Run(exchange);
                 });
}

WorkPtr LinkedCommunicator::Enqueue(OpIdentity identity, const char* verb, size_t bytes,
                                    const OpOptions& options, Body body) {
  auto state = std::make_shared<OpState>();
  const std::string named = options.name.empty() ? verb : verb + (" " + options.name);
  state->what = named + " #" + std::to_string(identity.sequence);
  state->identity = std::move(identity);
  if (recorder_ != nullptr)
    state->record = recorder_->Enqueued(named, state->identity.sequence, bytes);
  bool wake = false;
  Status failure;
  {
    MutexLock lock(mutex_);
    failure = failure_;
    if (failure.ok()) {
      queue_.push_back({state, std::move(body)});
      wake = std::exchange(idle_, false);
    }
  }
  if (!failure.ok()) {
    if (recorder_ != nullptr) recorder_->Ended(state->record, false);
    state->Finish(failure);
  }
  if (wake) sleeper_->Wake();
  return std::make_unique<LinkedWork>(this, std::move(state), options.timeout);
}

void LinkedCommunicator::DeadlinePassed(const OpState& state, Duration timeout) {
  std::string message = state.what + ": not done after " + HumanSeconds(ToSeconds(timeout));
  {
    MutexLock lock(mutex_);
    if (!current_.empty() && current_ != state.what)
      message += "; " + current_ + " is still under way";
    if (!waiting_for_.empty()) message += ", waiting for " + waiting_for_;
  }
  Fail(DeadlineExceeded(message), -1);
}

void LinkedCommunicator::Fail(const Status& reason, int lost_rank) {
  {
    MutexLock lock(mutex_);
    FailLocked(reason, lost_rank);
  }
  sleeper_->Wake();
}

void LinkedCommunicator::FailLocked(const Status& reason, int lost_rank) {
  if (!failure_.ok()) return;
  failure_ = reason;
  lost_rank_ = lost_rank;
  failed_ = true;
}

// ---------------------------------------------------------------- the thread

void LinkedCommunicator::ThreadMain() {
  for (;;) {
    if (failed_ && !told_peers_) AfterFailure();
    Operation operation;
    if (NextOperation(&operation)) {
      Execute(operation);
      continue;
    }
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
    }
    PollOnce();
    NoteLostLinks(nullptr);
  }
  if (failed_) return;
  for (const auto& link : links_) {
    if (link != nullptr) link->SendBye();
  }
}

bool LinkedCommunicator::NextOperation(Operation* operation) {
  MutexLock lock(mutex_);
  idle_ = queue_.empty();
  if (idle_) return false;
  *operation = std::move(queue_.front());
  queue_.pop_front();
  current_ = operation->state->what;
  return true;
}

void LinkedCommunicator::Execute(Operation& operation) {
  OpState& state = *operation.state;
  if (recorder_ != nullptr) recorder_->Started(state.record);
  Status status = failed_ ? failure() : operation.body(state.identity);
  if (!status.ok()) {
    Fail(status, -1);
    status = failure();  // the first cause
  }
  {
    MutexLock lock(mutex_);
    current_.clear();
    waiting_for_.clear();
  }
  if (recorder_ != nullptr) recorder_->Ended(state.record, status.ok());
  if (failed_ && !told_peers_) AfterFailure();
  state.Finish(status);
}

void LinkedCommunicator::AfterFailure() {
  told_peers_ = true;
  Status reason;
  int lost_rank = -1;
  {
    MutexLock lock(mutex_);
    reason = failure_;
    lost_rank = lost_rank_;
  }
  for (const auto& link : links_) {
    if (link != nullptr) link->SendFailed(lost_rank, reason.ToString());
  }
}

Status LinkedCommunicator::Run(Exchange& exchange) {
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

Status LinkedCommunicator::SleepUntilNews(Exchange& exchange) {
  sleeper_->SetSleeping(true);
  // Once more, now that peers ring: what came before has rung no bell.
  const bool progress = exchange.Advance();
  // A lost peer counts only here: what it had written before is taken.
  if (!progress) NoteLostLinks(&exchange);
  if (progress || failed_) {
    sleeper_->SetSleeping(false);
    return failure();
  }
  {
    std::vector<std::string> peers;
    for (const int peer : exchange.NeededPeers()) peers.push_back(std::to_string(peer));
    MutexLock lock(mutex_);
    waiting_for_ =
        peers.empty() ? "" : (peers.size() == 1 ? "rank " : "ranks ") + Join(peers, ", ");
  }
  PollOnce();
  sleeper_->SetSleeping(false);
  return OkStatus();
}

void LinkedCommunicator::NoteLostLinks(const Exchange* exchange) {
  for (const auto& link : links_) {
    if (link == nullptr || link->state() == Link::State::kOpen) continue;
    const bool left = link->state() == Link::State::kLeft;
    if (left && (exchange == nullptr || !exchange->Needs(link->peer()))) continue;
    const int lost = link->lost_rank();
    // The news of a rank's death may come back to that rank when it is only slow: it is not dead to
    // itself.
    Fail(link->reason(), lost == rank_ ? -1 : lost);
    return;
  }
}

void LinkedCommunicator::PollOnce() {
  poll_fds_.assign(1, {.fd = sleeper_->poll_fd(), .events = POLLIN, .revents = 0});
  polled_links_.assign(1, nullptr);
  for (const auto& link : links_) {
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

// ---------------------------------------------------------------- algorithms

Status LinkedCommunicator::RunFlatAllReduce(const OpIdentity& id, void* data, size_t count,
                                            DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  if (size() == 1) return OkStatus();
  // Into scratch: the own data must stay until all peers have it.
  scratch_.resize(kFlatAllReduceBytes);
  Exchange exchange(links_, rank_, id, 0);
  ForEachPeer([&](int peer) { exchange.Send(peer, data, bytes); });
  exchange.Reduce(data, scratch_.data(), count, dtype, op);
  WEFT_RETURN_IF_ERROR(Run(exchange));
  if (bytes > 0) std::memcpy(data, scratch_.data(), bytes);
  return OkStatus();
}

Status LinkedCommunicator::RunChunkedAllReduce(const OpIdentity& id, std::byte* data, size_t count,
                                               DType dtype, ReduceOp op) {
  const size_t element = DTypeSize(dtype);
  if (size() == 1) return OkStatus();
  const auto at = [&](int r) { return data + ChunkOf(count, size(), r).begin * element; };
  const auto bytes = [&](int r) { return ChunkOf(count, size(), r).count * element; };
  Exchange scatter(links_, rank_, id, 0);
  ForEachPeer([&](int peer) { scatter.Send(peer, at(peer), bytes(peer)); });
  scatter.Reduce(at(rank_), at(rank_), ChunkOf(count, size(), rank_).count, dtype, op);
  WEFT_RETURN_IF_ERROR(Run(scatter));
  Exchange gather(links_, rank_, id, 1);
  ForEachPeer([&](int peer) {
    gather.Send(peer, at(rank_), bytes(rank_));
    gather.Receive(peer, at(peer), bytes(peer));
  });
  return Run(gather);
}

Status LinkedCommunicator::RunBroadcast(const OpIdentity& id, std::byte* data, size_t bytes,
                                        int root) {
  if (size() > 2 && bytes > kScatteredBroadcastBytes)
    return RunScatteredBroadcast(id, data, bytes, root);
  Exchange exchange(links_, rank_, id, 0);
  if (rank_ == root) {
    ForEachPeer([&](int peer) { exchange.Send(peer, data, bytes); });
  } else {
    exchange.Receive(root, data, bytes);
  }
  return Run(exchange);
}

// The root sends each rank a chunk of its own and keeps one; then everybody gathers: nobody sends
// much more than `bytes`.
Status LinkedCommunicator::RunScatteredBroadcast(const OpIdentity& id, std::byte* data,
                                                 size_t bytes, int root) {
  const auto at = [&](int r) { return data + ChunkOf(bytes, size(), r).begin; };
  const auto length = [&](int r) { return ChunkOf(bytes, size(), r).count; };
  Exchange scatter(links_, rank_, id, 0);
  if (rank_ == root) {
    ForEachPeer([&](int peer) { scatter.Send(peer, at(peer), length(peer)); });
  } else {
    scatter.Receive(root, at(rank_), length(rank_));
  }
  WEFT_RETURN_IF_ERROR(Run(scatter));
  Exchange gather(links_, rank_, id, 1);
  ForEachPeer([&](int peer) {
    if (peer != root) gather.Send(peer, at(rank_), length(rank_));
    if (rank_ != root) gather.Receive(peer, at(peer), length(peer));
  });
  return Run(gather);
}

}  // namespace

std::unique_ptr<Communicator> MakeLinkedCommunicator(LinkedCommunicatorParts parts) {
  return std::make_unique<LinkedCommunicator>(std::move(parts));
}

size_t RingBytes(int ranks) {
  constexpr size_t kLargest = 1 << 20;
  constexpr size_t kAllOfARank = 8 << 20;
  constexpr size_t kSmallest = 128 << 10;
  const size_t share = kAllOfARank / static_cast<size_t>(std::max(ranks, 1)) / 4096 * 4096;
  return std::clamp(share, kSmallest, kLargest);
}

int SpinsFor(int ranks_on_host) {
  constexpr int kSpins = 200;
  return ranks_on_host <= static_cast<int>(std::thread::hardware_concurrency()) ? kSpins : 0;
}

}  // namespace weft
