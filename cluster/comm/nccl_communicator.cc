#include "cluster/comm/nccl_communicator.h"

#include <utility>

#include "cluster/base/logging.h"
#include "cluster/comm/nccl_lanes.h"
#include "cluster/comm/nccl_watch.h"

namespace weft::nccl {
namespace {

class NcclWork : public Work {
 public:
  NcclWork(std::shared_ptr<Watch> watch, OperationPtr operation)
      : watch_(std::move(watch)), operation_(std::move(operation)) {}

  Status Wait() override {
    if (operation_->callers == nullptr) return watch_->WaitForEnd(operation_);
    // Also for one that failed: its kernel may still be leaving the buffers.
    if (operation_->done != nullptr)
      WEFT_RETURN_IF_ERROR(operation_->done->HoldUp(operation_->callers));
    return watch_->failure();
  }
  bool Done() override {
    if (!watch_->HasEnded(operation_)) return false;
    static_cast<void>(watch_->EndOf(operation_));  // Wait says it
    return true;
  }
  const std::string& name() const override { return operation_->name; }
  uint64_t sequence() const override { return operation_->sequence; }

 private:
  const std::shared_ptr<Watch> watch_;
  const OperationPtr operation_;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(const NcclOptions& options, std::shared_ptr<Communication> communication,
                   std::shared_ptr<Communication> parent)
      : options_(options), parent_(std::move(parent)), communication_(std::move(communication)) {}
  ~NcclCommunicator() override;
  Status Open(std::shared_ptr<Family> family, TimePoint deadline);

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override {
    return Collective(
        "all_reduce", count * DTypeSize(dtype), options, [=](ncclComm_t comm, cudaStream_t stream) {
          return ncclAllReduce(data, data, count, TypeOf(dtype), OpOf(op), comm, stream);
        });
  }
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override {
    return Collective("all_gather", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclAllGather(send, recv, count, TypeOf(dtype), comm, stream);
                      });
  }
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override {
    return Collective("reduce_scatter", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclReduceScatter(send, recv, count, TypeOf(dtype), OpOf(op), comm,
                                                 stream);
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
                     return ncclSend(data, bytes, ncclUint8, kLaneReceiver, comm, stream);
                   });
  }
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override {
    return Message("recv", peer, lanes_.From(peer), bytes, options,
                   [=](ncclComm_t comm, cudaStream_t stream) {
                     return ncclRecv(data, bytes, ncclUint8, kLaneSender, comm, stream);
                   });
  }
  // NCCL has none: an all_reduce of one number.
  WorkPtr Barrier(const OpOptions& options) override {
    return Collective("barrier", 0, options, [this](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(barrier_memory_, barrier_memory_, 1, ncclInt64, ncclSum, comm, stream);
    });
  }

  void Abort(const Status& reason) override {
    WEFT_CHECK(!reason.ok()) << "Abort needs a reason";
    watch_->Fail(reason);
  }
  Status failure() const override { return watch_->LookAtAll(); }
  std::string CurrentOperation() const override { return watch_->CurrentOperation(); }

 private:
  using Call = std::function<ncclResult_t(ncclComm_t, cudaStream_t)>;

  OperationPtr Note(const std::string& verb, const std::string& peer, uint64_t sequence,
                    size_t bytes, const OpOptions& options);
  WorkPtr Collective(const char* verb, size_t bytes, const OpOptions& options, const Call& call);
  WorkPtr Message(const char* verb, int peer, Lane* lane, size_t bytes, const OpOptions& options,
                  const Call& call);
  // Puts it on the stream, behind what it has to wait for.
  Status LaunchCollective(Operation* operation, const Call& call);
  Status LaunchMessage(Operation* operation, Lane* lane, const Call& call);
  Status LaunchOn(cudaStream_t stream, Operation* operation, const Call& call);
  WorkPtr MakeWork(OperationPtr operation, const Status& launched);

  const NcclOptions options_;
  const std::shared_ptr<Communication> parent_;
  std::unique_ptr<Stream> stream_;  // of the collectives
  const std::shared_ptr<Communication> communication_;
  void* barrier_memory_ = nullptr;

  // The caller's thread only.
  Lanes lanes_;
  uint64_t collectives_ = 0;
  std::shared_ptr<Event> last_collective_;

  std::shared_ptr<Watch> watch_;
};

// ---------------------------------------------------------------- life

Status NcclCommunicator::Open(std::shared_ptr<Family> family, TimePoint deadline) {
  WEFT_ASSIGN_OR_RETURN(stream_, Stream::Create());
  WEFT_RETURN_IF_ERROR(
      FromCuda(cudaMalloc(&barrier_memory_, sizeof(int64_t)), "memory for barriers"));
  WEFT_ASSIGN_OR_RETURN(lanes_, Lanes::Make(communication_.get(), options_.rank, options_.size,
                                            options_.lanes, barrier_memory_, deadline));
  Communications own = lanes_.All();
  own.push_back(communication_);
  watch_ = std::make_shared<Watch>(options_.device, std::move(family), std::move(own),
                                   options_.recorder);
  return OkStatus();
}

NcclCommunicator::~NcclCommunicator() {
  if (watch_ != nullptr) watch_->Stop();
  if (barrier_memory_ != nullptr) cudaFree(barrier_memory_);
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
  auto operation = std::make_shared<Operation>();
  const std::string named = options.name.empty() ? verb : verb + " " + options.name;
  operation->name = options.name;
  operation->sequence = sequence;
  operation->what = named + " #" + std::to_string(sequence);
  operation->timeout = options.timeout;
  operation->callers = static_cast<cudaStream_t>(options.stream);
  if (options_.recorder != nullptr) {
    operation->record = options_.recorder->Enqueued(named + peer, sequence, bytes, options_.group);
  }
  return operation;
}

WorkPtr NcclCommunicator::Collective(const char* verb, size_t bytes, const OpOptions& options,
                                     const Call& call) {
  OperationPtr operation = Note(verb, "", ++collectives_, bytes, options);
  const Status launched = LaunchCollective(operation.get(), call);
  return MakeWork(std::move(operation), launched);
}

WorkPtr NcclCommunicator::Message(const char* verb, int peer, Lane* lane, size_t bytes,
                                  const OpOptions& options, const Call& call) {
  const std::string direction = verb == std::string("send") ? " to rank " : " from rank ";
  OperationPtr operation = Note(verb, direction + std::to_string(peer),
                                lane == nullptr ? 0 : ++lane->messages, bytes, options);
  const Status launched = LaunchMessage(operation.get(), lane, call);
  return MakeWork(std::move(operation), launched);
}

Status NcclCommunicator::LaunchCollective(Operation* operation, const Call& call) {
  WEFT_RETURN_IF_ERROR(watch_->failure());
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(options_.device), "choosing the device"));
  WEFT_RETURN_IF_ERROR(lanes_.HoldUp(stream_->get()));
  operation->communication = communication_;
  WEFT_RETURN_IF_ERROR(LaunchOn(stream_->get(), operation, call));
  last_collective_ = operation->done;
  return OkStatus();
}

Status NcclCommunicator::LaunchMessage(Operation* operation, Lane* lane, const Call& call) {
  WEFT_RETURN_IF_ERROR(watch_->failure());
  if (lane == nullptr)
    return FailedPrecondition(operation->what +
                              ": there is no lane to that rank; NcclOptions.lanes");
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(options_.device), "choosing the device"));
  if (last_collective_ != nullptr)
    WEFT_RETURN_IF_ERROR(last_collective_->HoldUp(lane->stream->get()));
  operation->communication = lane->communication;
  WEFT_RETURN_IF_ERROR(LaunchOn(lane->stream->get(), operation, call));
  lane->last = operation->done;
  return OkStatus();
}

Status NcclCommunicator::LaunchOn(cudaStream_t stream, Operation* operation, const Call& call) {
  if (operation->callers != nullptr) {
    // What the caller has put on its stream makes the bytes, or uses the ones before.
    WEFT_ASSIGN_OR_RETURN(const auto made, Event::Record(operation->callers));
    WEFT_RETURN_IF_ERROR(made->HoldUp(stream));
    WEFT_ASSIGN_OR_RETURN(operation->begun, Event::Record(stream));
  }
  WEFT_RETURN_IF_ERROR(
      operation->communication->Call(operation->what, Clock::now() + operation->timeout,
                                     [&](ncclComm_t comm) { return call(comm, stream); }));
  // Only now: NCCL has put its kernels on the stream.
  WEFT_ASSIGN_OR_RETURN(operation->done, Event::Record(stream));
  return OkStatus();
}

WorkPtr NcclCommunicator::MakeWork(OperationPtr operation, const Status& launched) {
  if (launched.ok()) {
    watch_->Add(operation);
  } else {
    watch_->AddFailed(operation, launched);
  }
  return std::make_unique<NcclWork>(watch_, std::move(operation));
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> OpenCommunicator(
    const NcclOptions& options, std::shared_ptr<Communication> communication,
    std::shared_ptr<Communication> parent, std::shared_ptr<Family> family, TimePoint deadline) {
  auto communicator =
      std::make_unique<NcclCommunicator>(options, std::move(communication), std::move(parent));
  WEFT_RETURN_IF_ERROR(communicator->Open(std::move(family), deadline));
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace weft::nccl
