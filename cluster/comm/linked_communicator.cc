#include "cluster/comm/linked_communicator.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/comm/collectives.h"
#include "cluster/comm/pending_work.h"
#include "cluster/comm/progress_thread.h"

namespace weft {
namespace {

class LinkedCommunicator : public Communicator {
 public:
  explicit LinkedCommunicator(LinkedCommunicatorParts parts)
      : members_(std::move(parts.members)),
        group_(std::move(parts.group)),
        recorder_(parts.recorder),
        sends_to_(members_.links.size(), 0),
        receives_from_(members_.links.size(), 0),
        collectives_(members_, [this](Exchange& exchange) { return thread_.Run(exchange); }),
        thread_(members_, std::move(parts.sleeper), recorder_, parts.spins) {}

  int rank() const override { return members_.rank; }
  int size() const override { return members_.size(); }

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
    thread_.Fail(reason);
  }
  Status failure() const override { return thread_.failure(); }
  std::string CurrentOperation() const override { return thread_.CurrentOperation(); }

 private:
  OpIdentity Collective(OpKind kind, const OpOptions& options) {
    return {.kind = kind, .sequence = ++collective_calls_, .name = options.name};
  }
  WorkPtr SubmitCollective(OpIdentity identity, size_t bytes, const OpOptions& options,
                           Operation::Body body);
  WorkPtr SubmitMessage(const Message& message, uint64_t sequence, const OpOptions& options);
  WorkPtr Submit(Operation operation, const char* verb, size_t bytes, const OpOptions& options);

  const Members members_;
  const std::string group_;
  FlightRecorder* const recorder_;

  // The caller's thread only.
  uint64_t collective_calls_ = 0;
  std::vector<uint64_t> sends_to_;
  std::vector<uint64_t> receives_from_;

  Collectives collectives_;  // on the thread
  ProgressThread thread_;    // last: it uses all of the above
};

WorkPtr LinkedCommunicator::AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                                      const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kAllReduce, options);
  id.dtype = static_cast<uint8_t>(dtype);
  id.reduce_op = static_cast<uint8_t>(op);
  return SubmitCollective(std::move(id), count * DTypeSize(dtype), options,
                          [=, this](const OpIdentity& identity) {
                            return collectives_.AllReduce(identity, data, count, dtype, op);
                          });
}

WorkPtr LinkedCommunicator::AllGather(const void* send, void* recv, size_t count, DType dtype,
                                      const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kAllGather, options);
  id.dtype = static_cast<uint8_t>(dtype);
  const size_t bytes = count * DTypeSize(dtype);
  return SubmitCollective(std::move(id), bytes, options, [=, this](const OpIdentity& identity) {
    return collectives_.AllGather(identity, send, recv, bytes);
  });
}

WorkPtr LinkedCommunicator::ReduceScatter(const void* send, void* recv, size_t count, DType dtype,
                                          ReduceOp op, const OpOptions& options) {
  OpIdentity id = Collective(OpKind::kReduceScatter, options);
  id.dtype = static_cast<uint8_t>(dtype);
  id.reduce_op = static_cast<uint8_t>(op);
  return SubmitCollective(
      std::move(id), count * DTypeSize(dtype), options, [=, this](const OpIdentity& identity) {
        return collectives_.ReduceScatter(identity, send, recv, count, dtype, op);
      });
}

WorkPtr LinkedCommunicator::Broadcast(void* data, size_t bytes, int root,
                                      const OpOptions& options) {
  WEFT_CHECK(root >= 0 && root < size()) << "root " << root << " of " << size();
  return SubmitCollective(Collective(OpKind::kBroadcast, options), bytes, options,
                          [=, this](const OpIdentity& identity) {
                            return collectives_.Broadcast(identity, data, bytes, root);
                          });
}

WorkPtr LinkedCommunicator::AllToAll(const std::vector<SendBuffer>& send,
                                     const std::vector<RecvBuffer>& recv,
                                     const OpOptions& options) {
  const auto ranks = static_cast<size_t>(size());
  const auto me = static_cast<size_t>(rank());
  WEFT_CHECK_EQ(send.size(), ranks);
  WEFT_CHECK_EQ(recv.size(), ranks);
  WEFT_CHECK_EQ(send[me].bytes, recv[me].bytes) << "own part";
  size_t bytes = 0;
  for (const SendBuffer& buffer : send) bytes += buffer.bytes;
  return SubmitCollective(Collective(OpKind::kAllToAll, options), bytes, options,
                          [this, send, recv](const OpIdentity& identity) {
                            return collectives_.AllToAll(identity, send, recv);
                          });
}

WorkPtr LinkedCommunicator::Barrier(const OpOptions& options) {
  return SubmitCollective(
      Collective(OpKind::kBarrier, options), 0, options,
      [this](const OpIdentity& identity) { return collectives_.Barrier(identity); });
}

WorkPtr LinkedCommunicator::Send(const void* data, size_t bytes, int peer,
                                 const OpOptions& options) {
  WEFT_CHECK(peer >= 0 && peer < size() && peer != rank()) << "peer " << peer << " of " << size();
  return SubmitMessage({.direction = Message::Direction::kSend,
                        .peer = peer,
                        .data = const_cast<void*>(data),
                        .bytes = bytes},
                       ++sends_to_[static_cast<size_t>(peer)], options);
}

WorkPtr LinkedCommunicator::Recv(void* data, size_t bytes, int peer, const OpOptions& options) {
  WEFT_CHECK(peer >= 0 && peer < size() && peer != rank()) << "peer " << peer << " of " << size();
  return SubmitMessage(
      {.direction = Message::Direction::kReceive, .peer = peer, .data = data, .bytes = bytes},
      ++receives_from_[static_cast<size_t>(peer)], options);
}

WorkPtr LinkedCommunicator::SubmitCollective(OpIdentity identity, size_t bytes,
                                             const OpOptions& options, Operation::Body body) {
  Operation operation{.state = std::make_shared<OpState>(), .collective = std::move(body)};
  const char* verb = OpKindName(identity.kind);
  operation.state->identity = std::move(identity);
  return Submit(std::move(operation), verb, bytes, options);
}

WorkPtr LinkedCommunicator::SubmitMessage(const Message& message, uint64_t sequence,
                                          const OpOptions& options) {
  Operation operation{.state = std::make_shared<OpState>(), .message = message};
  operation.state->identity = {
      .kind = OpKind::kPointToPoint, .sequence = sequence, .name = options.name};
  operation.state->peer = message.peer;
  const char* verb = message.direction == Message::Direction::kSend ? "send" : "recv";
  return Submit(std::move(operation), verb, message.bytes, options);
}

WorkPtr LinkedCommunicator::Submit(Operation operation, const char* verb, size_t bytes,
                                   const OpOptions& options) {
  const std::shared_ptr<OpState> state = operation.state;
  const Message& message = operation.message;
  const bool sends = message.direction == Message::Direction::kSend;
  const std::string peer =
      message.peer < 0 ? "" : (sends ? " to " : " from ") + members_.Name(message.peer);
  DescribeOperation(verb, peer, bytes, group_, recorder_, state.get());
  thread_.Submit(std::move(operation));
  return MakePendingWork(state, options.timeout, [this](const OpState& late, Duration timeout) {
    thread_.DeadlinePassed(late, timeout);
  });
}

}  // namespace

std::unique_ptr<Communicator> MakeLinkedCommunicator(LinkedCommunicatorParts parts) {
  for (const auto& link : parts.members.links) {
    if (link != nullptr) link->SetWorldRank(parts.members.WorldRank(link->peer()));
  }
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
