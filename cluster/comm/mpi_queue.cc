#include "cluster/comm/mpi_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/text.h"

namespace weft::mpi {

// ---------------------------------------------------------------- frames

void Frame::SetText(const std::string& value) {
  text_bytes = static_cast<uint32_t>(std::min(value.size(), sizeof(text)));
  std::memcpy(text, value.data(), text_bytes);
}

bool Frame::Agrees(const Frame& other) const {
  return kind == other.kind && dtype == other.dtype && reduce_op == other.reduce_op &&
         root == other.root && sequence == other.sequence && bytes == other.bytes &&
         Text() == other.Text();
}

std::string Frame::Describe() const {
  std::string words = std::string(OpKindName(static_cast<OpKind>(kind))) + " " + Text() + " #" +
                      std::to_string(sequence) + " (" + std::to_string(bytes) + " bytes";
  const bool typed = kind <= static_cast<uint8_t>(OpKind::kReduceScatter);
  if (typed) words += std::string(" of ") + DTypeName(static_cast<DType>(dtype));
  if (root >= 0) words += ", root " + std::to_string(root);
  return words + ")";
}

std::string Queue::Members::Name(int member) const {
  return "rank " +
         std::to_string(world_ranks.empty() ? member : world_ranks[static_cast<size_t>(member)]);
}

// ---------------------------------------------------------------- life

Queue::Queue(std::shared_ptr<Process> process, MPI_Comm comm, Members members,
             FlightRecorder* recorder)
    : process_(std::move(process)),
      comm_(comm),
      members_(std::move(members)),
      recorder_(recorder),
      incoming_(std::make_unique<Frame>()),
      announced_(static_cast<size_t>(members_.size)),
      lanes_(static_cast<size_t>(members_.size) * 2) {}

Status Queue::Open() { return PostReceive(); }

Status Queue::PostReceive() {
  const Calls& calls = process_->calls();
  receive_ = calls.no_request;
  return calls.From(calls.irecv(incoming_.get(), sizeof(Frame), calls.byte, MPI_ANY_SOURCE,
                                kFrameTag, comm_, &receive_),
                    "MPI_Irecv");
}

Status Queue::Close() {
  const Calls& calls = process_->calls();
  WEFT_RETURN_IF_ERROR(calls.From(calls.cancel(&receive_), "MPI_Cancel"));
  const TimePoint give_up = Clock::now() + std::chrono::seconds(1);
  for (int done = 0; done == 0;) {
    WEFT_RETURN_IF_ERROR(calls.From(calls.test(&receive_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (Clock::now() > give_up) return DeadlineExceeded("taking back a receive");
  }
  return OkStatus();
}

// ---------------------------------------------------------------- from any thread

void Queue::Submit(QueuedOperation operation) {
  {
    MutexLock lock(mutex_);
    queue_.push_back(std::move(operation));
  }
  arrived_ = true;
  process_->Wake();
}

std::string Queue::CurrentOperation() const {
  MutexLock lock(mutex_);
  return Describe(under_way_);
}

void Queue::DeadlinePassed(const OpState& state, Duration timeout) {
  std::string message;
  {
    MutexLock lock(mutex_);
    message = DescribeDeadline(under_way_, state, timeout);
  }
  process_->Fail(DeadlineExceeded(message));
}

// ---------------------------------------------------------------- the thread: a round

StatusOr<Poller::Result> Queue::Poll() {
  WEFT_ASSIGN_OR_RETURN(bool moved, ReceiveFrames());
  WEFT_ASSIGN_OR_RETURN(const bool sent, DropSentFrames());
  moved |= sent;
  TakeNew();
  WEFT_ASSIGN_OR_RETURN(const bool lanes_moved, AdvanceLanes());
  moved |= lanes_moved;
  if (busy_lanes_ == 0 && collective_.has_value()) {
    WEFT_ASSIGN_OR_RETURN(const bool collective_moved, AdvanceCollective());
    moved |= collective_moved;
  }
  if (moved) return Result::kMoved;
  const bool waits = busy_lanes_ > 0 || collective_.has_value() || !outgoing_.empty();
  return waits ? Result::kWaits : Result::kIdle;
}

void Queue::TakeNew() {
  if (collective_.has_value() || !arrived_.exchange(false)) return;
  MutexLock lock(mutex_);
  while (!queue_.empty() && !collective_.has_value()) {
    if (queue_.front().frame.has_value()) {
      collective_ = std::move(queue_.front());
    } else {
      const Message& message = queue_.front().message;
      const bool send = message.direction == Message::Direction::kSend;
      Lane& lane = lanes_[static_cast<size_t>(message.peer) * 2 + (send ? 0 : 1)];
      if (lane.queue.empty()) ++busy_lanes_;
      lane.queue.push_back(std::move(queue_.front()));
    }
    queue_.pop_front();
  }
  if (!queue_.empty()) arrived_ = true;
}

// ---------------------------------------------------------------- frames on their way

Status Queue::SendToAll(const Frame& frame) {
  if (members_.size == 1) return OkStatus();
  outgoing_.push_back({.frame = frame, .requests = Requests(&process_->calls(), comm_)});
  Outgoing& out = outgoing_.back();
  for (int i = 1; i < members_.size; ++i) {
    WEFT_RETURN_IF_ERROR(out.requests.Send((members_.rank + i) % members_.size, &out.frame,
                                           out.frame.size(), kFrameTag));
  }
  return OkStatus();
}

StatusOr<bool> Queue::DropSentFrames() {
  bool moved = false;
  while (!outgoing_.empty()) {
    WEFT_ASSIGN_OR_RETURN(const bool sent, outgoing_.front().requests.Test());
    if (!sent) break;
    outgoing_.pop_front();
    moved = true;
  }
  return moved;
}

StatusOr<bool> Queue::ReceiveFrames() {
  const Calls& calls = process_->calls();
  for (bool moved = false;; moved = true) {
    int done = 0;
    MPI_Status status;
    WEFT_RETURN_IF_ERROR(calls.From(calls.test(&receive_, &done, &status), "MPI_Test"));
    if (done == 0) return moved;
    WEFT_RETURN_IF_ERROR(TakeFrame(status.MPI_SOURCE));
    WEFT_RETURN_IF_ERROR(PostReceive());
  }
}

Status Queue::TakeFrame(int peer) {
  const Frame& frame = *incoming_;
  if (frame.magic != Frame::kMagic || frame.text_bytes > sizeof(frame.text))
    return Corruption(members_.Name(peer) + " sent bytes that are no frame");
  if (frame.type == Frame::kFailure)
    return Unavailable(members_.Name(peer) + " gave up: " + frame.Text());
  announced_[static_cast<size_t>(peer)].push_back(frame);
  return OkStatus();
}

// ---------------------------------------------------------------- messages

StatusOr<bool> Queue::AdvanceLanes() {
  bool moved = false;
  for (size_t i = 0; busy_lanes_ > 0 && i < lanes_.size(); ++i) {
    if (lanes_[i].queue.empty()) continue;
    WEFT_ASSIGN_OR_RETURN(const bool lane_moved, AdvanceLane(&lanes_[i]));
    moved |= lane_moved;
  }
  return moved;
}

StatusOr<bool> Queue::AdvanceLane(Lane* lane) {
  bool moved = false;
  while (!lane->queue.empty()) {
    const QueuedOperation& operation = lane->queue.front();
    const Message& message = operation.message;
    if (!lane->head.has_value()) {
      lane->head.emplace(&process_->calls(), comm_);
      Begin(operation.state, members_.Name(message.peer));
      WEFT_RETURN_IF_ERROR(
          message.direction == Message::Direction::kSend
              ? lane->head->Send(message.peer, message.data, message.bytes, kLaneTag)
              : lane->head->Receive(message.peer, message.data, message.bytes, kLaneTag));
    }
    const StatusOr<bool> done = lane->head->Test();
    WEFT_RETURN_IF_ERROR(done.status().WithContext(operation.state->what));
    if (!*done) return moved;
    End(*operation.state, OkStatus());
    lane->head.reset();
    lane->queue.pop_front();
    if (lane->queue.empty()) --busy_lanes_;
    moved = true;
  }
  return moved;
}

// ---------------------------------------------------------------- the collective

StatusOr<bool> Queue::AdvanceCollective() {
  if (!announced_own_) {
    Begin(collective_->state, "");
    WEFT_RETURN_IF_ERROR(SendToAll(*collective_->frame));
    announced_own_ = true;
    num_missing_ = 0;
  }
  if (!running_.has_value()) {
    WEFT_ASSIGN_OR_RETURN(const bool agreed, AllAgree());
    if (!agreed) return false;
    running_.emplace(&process_->calls(), comm_);
  }
  for (bool moved = false;; moved = true) {
    const StatusOr<bool> done = running_->Test();
    WEFT_RETURN_IF_ERROR(done.status().WithContext(collective_->state->what));
    if (!*done) return moved;
    if (collective_->steps) {
      WEFT_ASSIGN_OR_RETURN(const bool more, collective_->steps(&*running_));
      if (more) continue;
    }
    const QueuedOperation finished = *std::exchange(collective_, std::nullopt);
    running_.reset();
    announced_own_ = false;
    arrived_ = true;  // what stood behind it
    End(*finished.state, OkStatus());
    return true;
  }
}

StatusOr<bool> Queue::AllAgree() {
  std::vector<int> missing;
  for (int peer = 0; peer < members_.size; ++peer) {
    if (peer == members_.rank) continue;
    const auto& frames = announced_[static_cast<size_t>(peer)];
    if (frames.empty()) {
      missing.push_back(peer);
    } else if (!frames.front().Agrees(*collective_->frame)) {
      return FailedPrecondition(members_.Name(peer) + " calls " + frames.front().Describe() +
                                ", but this rank, " + members_.Name(members_.rank).substr(5) +
                                ", calls " + collective_->frame->Describe() +
                                "; all ranks must call the same operations in the same order");
    }
  }
  NoteMissing(missing);
  if (!missing.empty()) return false;
  for (auto& frames : announced_) {
    if (!frames.empty()) frames.pop_front();
  }
  return true;
}

void Queue::NoteMissing(const std::vector<int>& missing) {
  if (missing.size() == num_missing_) return;  // they only become fewer
  num_missing_ = missing.size();
  std::vector<std::string> names;
  for (const int peer : missing) names.push_back(members_.Name(peer).substr(5));
  MutexLock lock(mutex_);
  under_way_.front().waiting_for =
      names.empty() ? "" : (names.size() == 1 ? "rank " : "ranks ") + Join(names, ", ");
}

// ---------------------------------------------------------------- begin and end

void Queue::Begin(const std::shared_ptr<OpState>& state, std::string waiting_for) {
  if (recorder_ != nullptr) recorder_->Started(state->record);
  MutexLock lock(mutex_);
  under_way_.push_back({.state = state, .waiting_for = std::move(waiting_for)});
}

void Queue::End(OpState& state, const Status& status) {
  {
    MutexLock lock(mutex_);
    Remove(state, &under_way_);
  }
  if (recorder_ != nullptr) recorder_->Ended(state.record, status.ok());
  state.Finish(status);
}

void Queue::TellPeers(const Status& reason) {
  if (std::exchange(told_, true)) return;
  Frame frame;
  frame.type = Frame::kFailure;
  frame.SetText(reason.ToString());
  // A failure of this has nobody to be told to.
  (void)SendToAll(frame);
}

bool Queue::PeersAreTold() {
  if (ended_) return true;
  const StatusOr<bool> moved = DropSentFrames();
  return !moved.ok() || outgoing_.empty();
}

void Queue::EndAll(const Status& reason) {
  if (!ended_) {
    // MPI may still know of them.
    incoming_.release();  // NOLINT(bugprone-unused-return-value)
    (void)new std::list<Outgoing>(std::move(outgoing_));
  }
  for (Lane& lane : lanes_) {
    lane.head.reset();
    for (const QueuedOperation& operation : lane.queue) End(*operation.state, reason);
    lane.queue.clear();
  }
  if (collective_.has_value()) End(*collective_->state, reason);
  collective_.reset();
  std::deque<QueuedOperation> pending;
  {
    MutexLock lock(mutex_);
    pending.swap(queue_);
  }
  for (const QueuedOperation& operation : pending) End(*operation.state, reason);
  ended_ = true;
}

}  // namespace weft::mpi
