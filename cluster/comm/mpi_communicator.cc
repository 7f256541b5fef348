#include "cluster/comm/mpi_communicator.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/mpi_collectives.h"
#include "cluster/comm/mpi_process.h"
#include "cluster/comm/mpi_queue.h"
#include "cluster/comm/pending_work.h"

namespace weft {
namespace {

using mpi::Calls;
using mpi::Frame;
using mpi::Process;
using mpi::QueuedOperation;
using mpi::Steps;

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<Process> process, MPI_Comm comm, mpi::Queue::Members members,
                  std::string group, FlightRecorder* recorder)
      : process_(std::move(process)),
        place_{.calls = &process_->calls(), .rank = members.rank, .size = members.size},
        group_(std::move(group)),
        recorder_(recorder),
        sends_to_(static_cast<size_t>(members.size), 0),
        receives_from_(static_cast<size_t>(members.size), 0),
        queue_(process_, comm, std::move(members), recorder) {}
  ~MpiCommunicator() override;
  // Meets the other ranks, so that what MPI connects at the first message is connected.
  Status Open(TimePoint deadline);

  int rank() const override { return place_.rank; }
  int size() const override { return place_.size; }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override {
    Frame frame = Typed(OpKind::kAllReduce, count, dtype);
    frame.reduce_op = static_cast<uint8_t>(op);
    return Collective(frame, frame.bytes, options,
                      mpi::AllReduceSteps(place_, data, count, dtype, op));
  }
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override {
    const Frame frame = Typed(OpKind::kAllGather, count, dtype);
    return Collective(frame, frame.bytes, options,
                      mpi::AllGatherSteps(place_, send, recv, frame.bytes));
  }
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override {
    Frame frame = Typed(OpKind::kReduceScatter, count, dtype);
    frame.reduce_op = static_cast<uint8_t>(op);
    return Collective(frame, frame.bytes, options,
                      mpi::ReduceScatterSteps(place_, send, recv, count, dtype, op));
  }
  WorkPtr Broadcast(void* data, size_t bytes, int root, const OpOptions& options) override {
    WEFT_CHECK(root >= 0 && root < size()) << "root " << root << " of " << size();
    Frame frame;
    frame.kind = static_cast<uint8_t>(OpKind::kBroadcast);
    frame.root = root;
    frame.bytes = bytes;
    return Collective(frame, bytes, options, mpi::BroadcastSteps(place_, data, bytes, root));
  }
  WorkPtr AllToAll(const std::vector<SendBuffer>& send, const std::vector<RecvBuffer>& recv,
                   const OpOptions& options) override;
  WorkPtr Send(const void* data, size_t bytes, int peer, const OpOptions& options) override {
    CheckPeer(peer);
    return SubmitMessage({.direction = Message::Direction::kSend,
                          .peer = peer,
                          .data = const_cast<void*>(data),
                          .bytes = bytes},
                         ++sends_to_[static_cast<size_t>(peer)], options);
  }
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override {
    CheckPeer(peer);
    return SubmitMessage(
        {.direction = Message::Direction::kReceive, .peer = peer, .data = data, .bytes = bytes},
        ++receives_from_[static_cast<size_t>(peer)], options);
  }
  WorkPtr Barrier(const OpOptions& options) override {
    Frame frame;
    frame.kind = static_cast<uint8_t>(OpKind::kBarrier);
    return Collective(frame, 0, options, nullptr);
  }

  void Abort(const Status& reason) override {
    WEFT_CHECK(!reason.ok()) << "Abort needs a reason";
    process_->Fail(reason);
  }
  Status failure() const override { return process_->failure(); }
  std::string CurrentOperation() const override { return queue_.CurrentOperation(); }

 private:
  static Frame Typed(OpKind kind, size_t count, DType dtype) {
    Frame frame;
    frame.kind = static_cast<uint8_t>(kind);
    frame.dtype = static_cast<uint8_t>(dtype);
    frame.bytes = count * DTypeSize(dtype);
    return frame;
  }
  void CheckPeer(int peer) const {
    WEFT_CHECK(peer >= 0 && peer < size() && peer != rank()) << "peer " << peer << " of " << size();
  }
  WorkPtr Collective(Frame frame, size_t bytes, const OpOptions& options, Steps steps);
  WorkPtr SubmitMessage(const Message& message, uint64_t sequence, const OpOptions& options);
  WorkPtr Submit(QueuedOperation operation, const std::string& verb, const std::string& peer,
                 size_t bytes, const OpOptions& options);

  const std::shared_ptr<Process> process_;
  const mpi::Place place_;
  const std::string group_;
  FlightRecorder* const recorder_;

  // The caller's thread only.
  uint64_t collective_calls_ = 0;
  std::vector<uint64_t> sends_to_;
  std::vector<uint64_t> receives_from_;

  mpi::Queue queue_;
};

// ---------------------------------------------------------------- life

Status MpiCommunicator::Open(TimePoint deadline) {
  WEFT_RETURN_IF_ERROR(process_->Call("opening " + group_, deadline,
                                      [this](const Calls&) { return queue_.Open(); }));
  process_->Attach(&queue_);
  const Duration left = std::max<Duration>(deadline - Clock::now(), Duration::zero());
  const Status met = Barrier({.name = "connect " + group_, .timeout = left})->Wait();
  collective_calls_ = 0;
  return met;
}

MpiCommunicator::~MpiCommunicator() {
  if (failure().ok() && !CurrentOperation().empty())
    process_->Fail(Cancelled("the communicator was destroyed before its operations were done"));
  if (failure().ok()) {
    const Status closed = process_->Call(
        "closing " + group_, Clock::now() + std::chrono::seconds(5), [this](const Calls&) {
          process_->Detach(&queue_);
          return queue_.Close();
        });
    if (closed.ok()) return;
  }
  // Ends what is pending, and tells the peers.
  const TimePoint give_up = Clock::now() + std::chrono::seconds(1);
  while (!queue_.ended() && Clock::now() < give_up) {
    process_->Wake();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  process_->Detach(&queue_);
}

// ---------------------------------------------------------------- operations

WorkPtr MpiCommunicator::AllToAll(const std::vector<SendBuffer>& send,
                                  const std::vector<RecvBuffer>& recv, const OpOptions& options) {
  const auto ranks = static_cast<size_t>(size());
  WEFT_CHECK_EQ(send.size(), ranks);
  WEFT_CHECK_EQ(recv.size(), ranks);
  WEFT_CHECK_EQ(send[static_cast<size_t>(rank())].bytes, recv[static_cast<size_t>(rank())].bytes)
      << "own part";
  Frame frame;  // of no size: it differs by rank
  frame.kind = static_cast<uint8_t>(OpKind::kAllToAll);
  size_t bytes = 0;
  for (const SendBuffer& buffer : send) bytes += buffer.bytes;
  return Collective(frame, bytes, options, mpi::AllToAllSteps(place_, send, recv));
}

WorkPtr MpiCommunicator::Collective(Frame frame, size_t bytes, const OpOptions& options,
                                    Steps steps) {
  frame.sequence = ++collective_calls_;
  frame.SetText(options.name);
  const auto kind = static_cast<OpKind>(frame.kind);
  auto state = std::make_shared<OpState>();
  state->identity = {.kind = kind, .sequence = frame.sequence, .name = options.name};
  return Submit({.state = std::move(state), .frame = frame, .steps = std::move(steps)},
                OpKindName(kind), "", bytes, options);
}

WorkPtr MpiCommunicator::SubmitMessage(const Message& message, uint64_t sequence,
                                       const OpOptions& options) {
  const bool sends = message.direction == Message::Direction::kSend;
  auto state = std::make_shared<OpState>();
  state->identity = {.kind = OpKind::kPointToPoint, .sequence = sequence, .name = options.name};
  state->peer = message.peer;
  return Submit({.state = std::move(state), .message = message}, sends ? "send" : "recv",
                (sends ? " to " : " from ") + queue_.members().Name(message.peer), message.bytes,
                options);
}

WorkPtr MpiCommunicator::Submit(QueuedOperation operation, const std::string& verb,
                                const std::string& peer, size_t bytes, const OpOptions& options) {
  const std::shared_ptr<OpState> state = operation.state;
  DescribeOperation(verb, peer, bytes, group_, recorder_, state.get());
  queue_.Submit(std::move(operation));
  return MakePendingWork(state, options.timeout, [this](const OpState& late, Duration timeout) {
    queue_.DeadlinePassed(late, timeout);
  });
}

// ---------------------------------------------------------------- connecting

// The communicator of those with the same `color`, in the order of `key`.
StatusOr<MPI_Comm> SplitComm(Process* process, MPI_Comm from, int color, int key,
                             TimePoint deadline) {
  MPI_Comm made = nullptr;
  WEFT_RETURN_IF_ERROR(
      process->Call("MPI_Comm_split", deadline, [&made, from, color, key](const Calls& calls) {
        return calls.From(calls.comm_split(from, color, key, &made), "MPI_Comm_split");
      }));
  return made;
}

StatusOr<std::unique_ptr<Communicator>> MakeCommunicator(const std::shared_ptr<Process>& process,
                                                         MPI_Comm comm, mpi::Queue::Members members,
                                                         const std::string& group,
                                                         FlightRecorder* recorder,
                                                         TimePoint deadline) {
  auto communicator =
      std::make_unique<MpiCommunicator>(process, comm, std::move(members), group, recorder);
  WEFT_RETURN_IF_ERROR(communicator->Open(deadline));
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> ConnectMpi(const MpiOptions& options) {
  const TimePoint deadline = Clock::now() + options.timeout;
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<Process> process,
                        Process::Start(options.size, options.timeout));
  WEFT_ASSIGN_OR_RETURN(
      MPI_Comm comm, SplitComm(process.get(), process->calls().world, 0, options.rank, deadline));
  return MakeCommunicator(process, comm, {.rank = options.rank, .size = options.size}, "world",
                          options.recorder, deadline);
}

StatusOr<MeshCommunicators> ConnectMpiMesh(const ParallelDims& dims, const MpiOptions& world) {
  if (dims.world_size() != world.size || world.rank < 0 || world.rank >= world.size) {
    return InvalidArgument("rank " + std::to_string(world.rank) + " of " +
                           std::to_string(world.size) + " in a layout of " +
                           std::to_string(dims.world_size()) + " ranks");
  }
  const Mesh mesh(dims);
  const TimePoint deadline = Clock::now() + world.timeout;
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<Process> process,
                        Process::Start(world.size, world.timeout));
  WEFT_ASSIGN_OR_RETURN(MPI_Comm ordered,
                        SplitComm(process.get(), process->calls().world, 0, world.rank, deadline));
  MeshCommunicators mine;
  for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
    if (dims.Degree(axis) == 1) continue;
    const std::string group = GroupName(mesh, axis, world.rank);
    mpi::Queue::Members members{.rank = mesh.CoordinateOf(world.rank).Index(axis),
                                .size = dims.Degree(axis),
                                .world_ranks = mesh.Group(axis, world.rank)};
    WEFT_ASSIGN_OR_RETURN(
        MPI_Comm comm,
        SplitComm(process.get(), ordered, members.world_ranks.front(), members.rank, deadline));
    auto made =
        MakeCommunicator(process, comm, std::move(members), group, world.recorder, deadline);
    WEFT_RETURN_IF_ERROR(made.status().WithContext(group));
    mine.Of(axis) = *std::move(made);
  }
  return mine;
}

}  // namespace weft
