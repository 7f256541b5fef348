#include "cluster/comm/nccl_communicator.h"

#include <cstring>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/nccl_lanes.h"

namespace weft {
namespace {

using nccl::Communication;
using nccl::Event;
using nccl::FromCuda;
using nccl::Lane;

static_assert(sizeof(ncclUniqueId) == sizeof(NcclUniqueId));

// An operation on a stream. Shared by the Work and the list of what is under way.
struct NcclOperation {
  std::string name;
  std::string what;  // "all_reduce grads #5"
  uint64_t sequence = 0;
  uint64_t record = 0;
  std::shared_ptr<Communication> communication;
  std::shared_ptr<Event> event;
  bool ended = false;  // by the caller's thread
  Status status;
};
using OperationPtr = std::shared_ptr<NcclOperation>;

class NcclCommunicator : public Communicator {
 public:
  // `parent`: what `communication` was split from, or null.
  NcclCommunicator(const NcclOptions& options, std::shared_ptr<Communication> communication,
                   std::shared_ptr<Communication> parent)
      : options_(options), parent_(std::move(parent)), communication_(std::move(communication)) {}
  ~NcclCommunicator() override;
  Status Open(TimePoint deadline);

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override {
    return Collective("all_reduce", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclAllReduce(data, data, count, nccl::TypeOf(dtype), nccl::OpOf(op),
                                             comm, stream);
                      });
  }
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override {
    return Collective("all_gather", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclAllGather(send, recv, count, nccl::TypeOf(dtype), comm, stream);
                      });
  }
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override {
    return Collective("reduce_scatter", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclReduceScatter(send, recv, count, nccl::TypeOf(dtype),
                                                 nccl::OpOf(op), comm, stream);
                      });
  }
  WorkPtr Broadcast(void* data, size_t bytes, int root, const OpOptions& options) override {
    return Collective("broadcast", bytes, options, [=](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(data, data, bytes, ncclUint8, root, comm, stream);
    });
  }
  WorkPtr AllToAll(const std::vector<SendBuffer>& send, const std::vector<RecvBuffer>& recv,
                   const OpOptions& options) override;
  WorkPtr Send(const void* data, size_t bytes, int peer, const OpOptions& options) override {
    return Message("send", peer, lanes_.To(peer), bytes, options,
                   [=](ncclComm_t comm, cudaStream_t stream) {
                     return ncclSend(data, bytes, ncclUint8, nccl::kLaneReceiver, comm, stream);
                   });
  }
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override {
    return Message("recv", peer, lanes_.From(peer), bytes, options,
                   [=](ncclComm_t comm, cudaStream_t stream) {
                     return ncclRecv(data, bytes, ncclUint8, nccl::kLaneSender, comm, stream);
                   });
  }
  // NCCL has none: an all_reduce of one number.
  WorkPtr Barrier(const OpOptions& options) override {
    return Collective("barrier", 0, options, [this](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(barrier_memory_, barrier_memory_, 1, ncclInt64, ncclSum, comm, stream);
    });
  }

  void Abort(const Status& reason) override;
  Status failure() const override {
    MutexLock lock(mutex_);
    return failure_;
  }
  std::string CurrentOperation() const override;

 private:
  friend class NcclWork;
  using Call = std::function<ncclResult_t(ncclComm_t, cudaStream_t)>;

  cudaStream_t StreamOf(const OpOptions& options) const {
    return options.stream == nullptr ? stream_ : static_cast<cudaStream_t>(options.stream);
  }
  OperationPtr Note(const std::string& verb, const std::string& peer, uint64_t sequence,
                    size_t bytes, const OpOptions& options);
  WorkPtr Collective(const char* verb, size_t bytes, const OpOptions& options, const Call& call);
  WorkPtr Message(const char* verb, int peer, Lane* lane, size_t bytes, const OpOptions& options,
                  const Call& call);
  // Puts it on the stream, behind what it has to wait for.
  Status LaunchCollective(NcclOperation* operation, const OpOptions& options, const Call& call);
  Status LaunchMessage(NcclOperation* operation, Lane* lane, const OpOptions& options,
                       const Call& call);
  Status LaunchOn(NcclOperation* operation, cudaStream_t stream, Duration timeout,
                  const Call& call);
  WorkPtr MakeWork(OperationPtr operation, const Status& launched, Duration timeout);
  Status WaitFor(NcclOperation* operation, Duration timeout);
  // Whether it is done or failed, now; the first cause is the status.
  bool CheckEnd(NcclOperation* operation, Status* status);
  void End(NcclOperation* operation, const Status& status);

  const NcclOptions options_;
  const std::shared_ptr<Communication> parent_;
  const std::shared_ptr<Communication> communication_;
  std::unique_ptr<nccl::Stream> own_stream_;
  cudaStream_t stream_ = nullptr;
  void* barrier_memory_ = nullptr;

  // The caller's thread only.
  nccl::Lanes lanes_;
  uint64_t collectives_ = 0;
  std::shared_ptr<Event> last_collective_;

  mutable Mutex mutex_;
  Status failure_ WEFT_GUARDED_BY(mutex_);
  std::vector<OperationPtr> under_way_ WEFT_GUARDED_BY(mutex_);
};

class NcclWork : public Work {
 public:
  NcclWork(NcclCommunicator* communicator, OperationPtr operation, Duration timeout)
      : communicator_(communicator), operation_(std::move(operation)), timeout_(timeout) {}

  Status Wait() override { return communicator_->WaitFor(operation_.get(), timeout_); }
  bool Done() override {
    Status status;
    if (!operation_->ended && communicator_->CheckEnd(operation_.get(), &status))
      communicator_->End(operation_.get(), status);
    return operation_->ended;
  }
  const std::string& name() const override { return operation_->name; }
  uint64_t sequence() const override { return operation_->sequence; }

 private:
  NcclCommunicator* const communicator_;
  const OperationPtr operation_;
  const Duration timeout_;
};

// ---------------------------------------------------------------- life

Status NcclCommunicator::Open(TimePoint deadline) {
  stream_ = static_cast<cudaStream_t>(options_.stream);
  if (stream_ == nullptr) {
    WEFT_ASSIGN_OR_RETURN(own_stream_, nccl::Stream::Create());
    stream_ = own_stream_->get();
  }
  WEFT_RETURN_IF_ERROR(
      FromCuda(cudaMalloc(&barrier_memory_, sizeof(int64_t)), "memory for barriers"));
  WEFT_ASSIGN_OR_RETURN(
      lanes_, nccl::Lanes::Make(communication_.get(), options_.rank, options_.size, options_.lanes,
                                barrier_memory_, deadline));
  return OkStatus();
}

NcclCommunicator::~NcclCommunicator() {
  if (!CurrentOperation().empty())
    Abort(Cancelled("the communicator was destroyed before its operations were done"));
  // Abort frees as ncclCommDestroy does, but waits for no peer.
  lanes_.Abort();
  communication_->Abort();
  if (barrier_memory_ != nullptr) cudaFree(barrier_memory_);
}

void NcclCommunicator::Abort(const Status& reason) {
  WEFT_CHECK(!reason.ok()) << "Abort needs a reason";
  {
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = reason;
  }
  lanes_.Abort();
  communication_->Abort();
}

std::string NcclCommunicator::CurrentOperation() const {
  MutexLock lock(mutex_);
  for (const OperationPtr& operation : under_way_) {
    if (operation->event->Query() == cudaErrorNotReady) return operation->what;
  }
  return "";
}

// ---------------------------------------------------------------- operations

WorkPtr NcclCommunicator::AllToAll(const std::vector<SendBuffer>& send,
                                   const std::vector<RecvBuffer>& recv, const OpOptions& options) {
  WEFT_CHECK_EQ(send.size(), static_cast<size_t>(size()));
  WEFT_CHECK_EQ(recv.size(), static_cast<size_t>(size()));
  size_t bytes = 0;
  for (const SendBuffer& buffer : send) bytes += buffer.bytes;
  return Collective("all_to_all", bytes, options, [&](ncclComm_t comm, cudaStream_t stream) {
    ncclResult_t first = ncclGroupStart();
    const auto note = [&first](ncclResult_t result) {
      if (first == ncclSuccess && result != ncclInProgress) first = result;
    };
    for (int peer = 0; peer < size(); ++peer) {
      const SendBuffer& out = send[static_cast<size_t>(peer)];
      const RecvBuffer& in = recv[static_cast<size_t>(peer)];
      if (out.bytes > 0) note(ncclSend(out.data, out.bytes, ncclUint8, peer, comm, stream));
      if (in.bytes > 0) note(ncclRecv(in.data, in.bytes, ncclUint8, peer, comm, stream));
    }
    note(ncclGroupEnd());
    return first;
  });
}

OperationPtr NcclCommunicator::Note(const std::string& verb, const std::string& peer,
                                    uint64_t sequence, size_t bytes, const OpOptions& options) {
  auto operation = std::make_shared<NcclOperation>();
  const std::string named = options.name.empty() ? verb : verb + " " + options.name;
  operation->name = options.name;
  operation->sequence = sequence;
  operation->what = named + " #" + std::to_string(sequence);
  FlightRecorder* recorder = options_.recorder;
  if (recorder != nullptr) {
    operation->record = recorder->Enqueued(named + peer, sequence, bytes, options_.group);
    recorder->Started(operation->record);
  }
  return operation;
}

WorkPtr NcclCommunicator::Collective(const char* verb, size_t bytes, const OpOptions& options,
                                     const Call& call) {
  OperationPtr operation = Note(verb, "", ++collectives_, bytes, options);
  const Status launched = LaunchCollective(operation.get(), options, call);
  return MakeWork(std::move(operation), launched, options.timeout);
}

WorkPtr NcclCommunicator::Message(const char* verb, int peer, Lane* lane, size_t bytes,
                                  const OpOptions& options, const Call& call) {
  const std::string direction = verb == std::string("send") ? " to rank " : " from rank ";
  OperationPtr operation = Note(verb, direction + std::to_string(peer),
                                lane == nullptr ? 0 : ++lane->messages, bytes, options);
  const Status launched = LaunchMessage(operation.get(), lane, options, call);
  return MakeWork(std::move(operation), launched, options.timeout);
}

Status NcclCommunicator::LaunchCollective(NcclOperation* operation, const OpOptions& options,
                                          const Call& call) {
  WEFT_RETURN_IF_ERROR(failure());
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(options_.device), "choosing the device"));
  const cudaStream_t stream = StreamOf(options);
  WEFT_RETURN_IF_ERROR(lanes_.HoldUp(stream));
  operation->communication = communication_;
  WEFT_RETURN_IF_ERROR(LaunchOn(operation, stream, options.timeout, call));
  last_collective_ = operation->event;
  return OkStatus();
}

Status NcclCommunicator::LaunchMessage(NcclOperation* operation, Lane* lane,
                                       const OpOptions& options, const Call& call) {
  WEFT_RETURN_IF_ERROR(failure());
  if (lane == nullptr)
    return FailedPrecondition(operation->what +
                              ": there is no lane to that rank; NcclOptions.lanes");
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(options_.device), "choosing the device"));
  // Behind what the caller has put on the stream that it names: that makes the bytes, or uses the ones before.
  const cudaStream_t callers = StreamOf(options);
  WEFT_ASSIGN_OR_RETURN(const auto made, Event::Record(callers));
  WEFT_RETURN_IF_ERROR(made->HoldUp(lane->stream->get()));
  if (last_collective_ != nullptr)
    WEFT_RETURN_IF_ERROR(last_collective_->HoldUp(lane->stream->get()));
  operation->communication = lane->communication;
  WEFT_RETURN_IF_ERROR(LaunchOn(operation, lane->stream->get(), options.timeout, call));
  lane->last = operation->event;
  return OkStatus();
}

Status NcclCommunicator::LaunchOn(NcclOperation* operation, cudaStream_t stream, Duration timeout,
                                  const Call& call) {
  WEFT_RETURN_IF_ERROR(
      operation->communication->Call(operation->what, Clock::now() + timeout,
                                     [&](ncclComm_t comm) { return call(comm, stream); }));
  // Only now: NCCL has put its kernels on the stream.
  WEFT_ASSIGN_OR_RETURN(operation->event, Event::Record(stream));
  return OkStatus();
}

WorkPtr NcclCommunicator::MakeWork(OperationPtr operation, const Status& launched,
                                   Duration timeout) {
  if (launched.ok()) {
    MutexLock lock(mutex_);
    std::erase_if(under_way_,
                  [](const OperationPtr& o) { return o->event->Query() != cudaErrorNotReady; });
    under_way_.push_back(operation);
  } else {
    Abort(launched);
    End(operation.get(), failure());
  }
  return std::make_unique<NcclWork>(this, std::move(operation), timeout);
}

bool NcclCommunicator::CheckEnd(NcclOperation* operation, Status* status) {
  const cudaError_t state = operation->event->Query();
  bool ready = false;
  // Also where the event has come: so it does for a kernel that was aborted or gave up.
  *status = failure();
  if (status->ok()) *status = operation->communication->Check(operation->what, &ready);
  if (status->ok() && state != cudaErrorNotReady) *status = FromCuda(state, operation->what);
  return state == cudaSuccess || !status->ok();
}

Status NcclCommunicator::WaitFor(NcclOperation* operation, Duration timeout) {
  const TimePoint deadline = Clock::now() + timeout;
  nccl::Pause pause;
  while (!operation->ended) {
    Status status;
    if (CheckEnd(operation, &status)) {
      End(operation, status);
    } else if (Clock::now() >= deadline) {
      End(operation, DeadlineExceeded(operation->what + ": not done after " +
                                      HumanSeconds(ToSeconds(timeout))));
    } else {
      pause.Sleep();
    }
  }
  return operation->status;
}

void NcclCommunicator::End(NcclOperation* operation, const Status& status) {
  if (!status.ok()) Abort(status);
  operation->ended = true;
  operation->status = status.ok() ? status : failure();  // the first cause
  if (options_.recorder != nullptr) options_.recorder->Ended(operation->record, status.ok());
}

// ---------------------------------------------------------------- connecting

Status ChooseDevice(const NcclOptions& options) {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || options.device >= devices) {
    return FailedPrecondition(
        "rank " + std::to_string(options.rank) + " wants CUDA device " +
        std::to_string(options.device) + ", but there are " + std::to_string(devices) +
        (found == cudaSuccess ? "" : std::string(" (") + cudaGetErrorString(found) + ")") +
        "; use layout.backend TCP, or fewer ranks a node");
  }
  return FromCuda(cudaSetDevice(options.device), "choosing the device");
}

StatusOr<std::shared_ptr<Communication>> ConnectWorld(const NcclOptions& options,
                                                      TimePoint deadline) {
  WEFT_RETURN_IF_ERROR(ChooseDevice(options));
  ncclUniqueId id;
  std::memcpy(&id, options.unique_id.data(), sizeof(id));
  return Communication::Init(options.size, id, options.rank, deadline);
}

StatusOr<std::unique_ptr<Communicator>> OpenCommunicator(
    const NcclOptions& options, std::shared_ptr<Communication> communication,
    std::shared_ptr<Communication> parent, TimePoint deadline) {
  auto communicator =
      std::make_unique<NcclCommunicator>(options, std::move(communication), std::move(parent));
  WEFT_RETURN_IF_ERROR(communicator->Open(deadline));
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace

StatusOr<NcclUniqueId> MakeNcclUniqueId() {
  ncclUniqueId id;
  WEFT_RETURN_IF_ERROR(nccl::FromNccl(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  NcclUniqueId bytes;
  std::memcpy(bytes.data(), &id, sizeof(id));
  return bytes;
}

StatusOr<std::string> NcclVersion() {
  int version = 0;
  WEFT_RETURN_IF_ERROR(nccl::FromNccl(ncclGetVersion(&version), "ncclGetVersion"));
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions& options) {
  const TimePoint deadline = Clock::now() + options.timeout;
  WEFT_ASSIGN_OR_RETURN(auto communication, ConnectWorld(options, deadline));
  return OpenCommunicator(options, std::move(communication), nullptr, deadline);
}

StatusOr<MeshCommunicators> ConnectNcclMesh(const ParallelDims& dims, const NcclOptions& world) {
  if (world.size != dims.world_size())
    return InvalidArgument(std::to_string(world.size) + " ranks in a layout of " +
                           std::to_string(dims.world_size()));
  const Mesh mesh(dims);
  const TimePoint begin = Clock::now();
  const TimePoint deadline = begin + world.timeout;
  WEFT_ASSIGN_OR_RETURN(const auto everybody, ConnectWorld(world, deadline));
  MeshCommunicators mine;
  for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
    if (dims.Degree(axis) == 1) continue;
    NcclOptions options = world;
    options.rank = mesh.CoordinateOf(world.rank).Index(axis);
    options.size = dims.Degree(axis);
    options.group = GroupName(mesh, axis, world.rank);
    options.lanes = axis == Axis::kPipeline ? NcclLanes::kRing : NcclLanes::kNone;
    auto communication =
        everybody->Split(mesh.Group(axis, world.rank).front(), options.rank, 0, deadline);
    WEFT_RETURN_IF_ERROR(communication.status().WithContext(options.group));
    auto made = OpenCommunicator(options, *std::move(communication), everybody, deadline);
    WEFT_RETURN_IF_ERROR(made.status().WithContext(options.group));
    mine.Of(axis) = *std::move(made);
  }
  WEFT_LOG(INFO) << "NCCL: " << mine.All().size() << " axes of " << world.size
                 << " ranks connected in " << HumanSeconds(ToSeconds(Clock::now() - begin));
  return mine;
}

}  // namespace weft
