#include "cluster/comm/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

static_assert(sizeof(ncclUniqueId) == sizeof(NcclUniqueId));

constexpr auto kShortestPause = std::chrono::microseconds(20);
constexpr auto kLongestPause = std::chrono::microseconds(1000);

Status FromCuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return OkStatus();
  return Unavailable(what + ": CUDA: " + cudaGetErrorString(error));
}

// ncclInProgress is no error here: the caller polls.
Status FromNccl(ncclResult_t result, const std::string& what) {
  if (result == ncclSuccess || result == ncclInProgress) return OkStatus();
  const char* details = ncclGetLastError(nullptr);
  std::string message = what + ": NCCL: " + ncclGetErrorString(result);
  if (details != nullptr && details[0] != '\0') message += std::string(" (") + details + ")";
  return Unavailable(message);
}

ncclDataType_t NcclType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ncclFloat32;
    case DType::kFloat64:
      return ncclFloat64;
    case DType::kBFloat16:
      return ncclBfloat16;
    case DType::kInt64:
      return ncclInt64;
    case DType::kUInt8:
      return ncclUint8;
  }
  return ncclUint8;
}

ncclRedOp_t NcclOp(ReduceOp op) { return op == ReduceOp::kSum ? ncclSum : ncclMax; }

// Sleeps a little longer each time.
class Pause {
 public:
  void Sleep() {
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(pause_ * 2, std::chrono::microseconds(kLongestPause));
  }

 private:
  std::chrono::microseconds pause_ = kShortestPause;
};

class CudaEvent {
 public:
  static StatusOr<CudaEvent> Record(cudaStream_t stream) {
    CudaEvent event;
    WEFT_RETURN_IF_ERROR(FromCuda(cudaEventCreateWithFlags(&event.event_, cudaEventDisableTiming),
                                  "creating an event"));
    WEFT_RETURN_IF_ERROR(FromCuda(cudaEventRecord(event.event_, stream), "recording an event"));
    return event;
  }
  CudaEvent() = default;
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~CudaEvent() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  // cudaErrorNotReady: the GPU is not there yet.
  cudaError_t Query() const { return cudaEventQuery(event_); }

 private:
  cudaEvent_t event_ = nullptr;
};

// An operation on the stream. Shared by the Work and the list of what is under way.
struct NcclOperation {
  std::string name;
  std::string what;  // "all_reduce grads #5"
  uint64_t sequence = 0;
  uint64_t record = 0;
  CudaEvent event;
  bool ended = false;  // by the caller's thread
  Status status;
};
using OperationPtr = std::shared_ptr<NcclOperation>;

class NcclCommunicator : public Communicator {
 public:
  static StatusOr<std::unique_ptr<Communicator>> Connect(const NcclOptions& options);
  ~NcclCommunicator() override;

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override {
    return Collective(
        "all_reduce", count * DTypeSize(dtype), options, [=](ncclComm_t comm, cudaStream_t stream) {
          return ncclAllReduce(data, data, count, NcclType(dtype), NcclOp(op), comm, stream);
        });
  }
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override {
    return Collective("all_gather", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclAllGather(send, recv, count, NcclType(dtype), comm, stream);
                      });
  }
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override {
    return Collective("reduce_scatter", count * DTypeSize(dtype), options,
                      [=](ncclComm_t comm, cudaStream_t stream) {
                        return ncclReduceScatter(send, recv, count, NcclType(dtype), NcclOp(op),
                                                 comm, stream);
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
    const uint64_t sequence = ++sends_to_[static_cast<size_t>(peer)];
    return Launch("send", sequence, bytes, options, [=](ncclComm_t comm, cudaStream_t stream) {
      return ncclSend(data, bytes, ncclUint8, peer, comm, stream);
    });
  }
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override {
    const uint64_t sequence = ++receives_from_[static_cast<size_t>(peer)];
    return Launch("recv", sequence, bytes, options, [=](ncclComm_t comm, cudaStream_t stream) {
      return ncclRecv(data, bytes, ncclUint8, peer, comm, stream);
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

  explicit NcclCommunicator(const NcclOptions& options)
      : options_(options),
        sends_to_(static_cast<size_t>(options.size), 0),
        receives_from_(static_cast<size_t>(options.size), 0) {}

  Status Open();
  WorkPtr Collective(const char* verb, size_t bytes, const OpOptions& options, const Call& call) {
    return Launch(verb, ++collectives_, bytes, options, call);
  }
  WorkPtr Launch(const char* verb, uint64_t sequence, size_t bytes, const OpOptions& options,
                 const Call& call);
  Status CallNccl(NcclOperation* operation, cudaStream_t stream, Duration timeout,
                  const Call& call);
  // Until NCCL has taken what was asked of it.
  Status WaitUntilReady(const std::string& what, TimePoint deadline);
  // OK, in progress (*ready = false) or the error.
  Status CheckAsync(const std::string& what, bool* ready);
  Status WaitFor(NcclOperation* operation, Duration timeout);
  void End(NcclOperation* operation, const Status& status);

  const NcclOptions options_;
  cudaStream_t stream_ = nullptr;
  bool owns_stream_ = false;
  void* barrier_memory_ = nullptr;

  // The caller's thread only.
  uint64_t collectives_ = 0;
  std::vector<uint64_t> sends_to_;
  std::vector<uint64_t> receives_from_;

  mutable Mutex mutex_;
  ncclComm_t comm_ WEFT_GUARDED_BY(mutex_) = nullptr;  // null once aborted
  Status failure_ WEFT_GUARDED_BY(mutex_);
  std::vector<OperationPtr> under_way_ WEFT_GUARDED_BY(mutex_);
};

class NcclWork : public Work {
 public:
  NcclWork(NcclCommunicator* communicator, OperationPtr operation, Duration timeout)
      : communicator_(communicator), operation_(std::move(operation)), timeout_(timeout) {}

  Status Wait() override { return communicator_->WaitFor(operation_.get(), timeout_); }
  bool Done() override {
    if (!operation_->ended && operation_->event.Query() == cudaSuccess) {
      communicator_->End(operation_.get(), OkStatus());
    }
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

StatusOr<std::unique_ptr<Communicator>> NcclCommunicator::Connect(const NcclOptions& options) {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || options.device >= devices) {
    return FailedPrecondition(
        "rank " + std::to_string(options.rank) + " wants CUDA device " +
        std::to_string(options.device) + ", but there are " + std::to_string(devices) +
        (found == cudaSuccess ? "" : std::string(" (") + cudaGetErrorString(found) + ")") +
        "; use layout.backend TCP, or fewer ranks a node");
  }
  std::unique_ptr<NcclCommunicator> communicator(new NcclCommunicator(options));
  WEFT_RETURN_IF_ERROR(communicator->Open());
  return std::unique_ptr<Communicator>(std::move(communicator));
}

Status NcclCommunicator::Open() {
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(options_.device), "choosing the device"));
  stream_ = static_cast<cudaStream_t>(options_.stream);
  if (stream_ == nullptr) {
    WEFT_RETURN_IF_ERROR(
        FromCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"));
    owns_stream_ = true;
  }
  WEFT_RETURN_IF_ERROR(
      FromCuda(cudaMalloc(&barrier_memory_, sizeof(int64_t)), "memory for barriers"));
  ncclUniqueId id;
  std::memcpy(&id, options_.unique_id.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  {
    MutexLock lock(mutex_);
    WEFT_RETURN_IF_ERROR(
        FromNccl(ncclCommInitRankConfig(&comm_, options_.size, id, options_.rank, &config),
                 "ncclCommInitRankConfig"));
  }
  const Status status = WaitUntilReady("connecting", Clock::now() + options_.timeout);
  if (!status.ok()) Abort(status);
  return status;
}

NcclCommunicator::~NcclCommunicator() {
  bool pending = false;
  {
    MutexLock lock(mutex_);
    for (const OperationPtr& operation : under_way_)
      pending |= operation->event.Query() == cudaErrorNotReady;
  }
  if (pending) Abort(Cancelled("the communicator was destroyed before its operations were done"));
  MutexLock lock(mutex_);
  // Abort frees like Destroy, but waits for no peer.
  if (comm_ != nullptr) ncclCommAbort(comm_);
  if (barrier_memory_ != nullptr) cudaFree(barrier_memory_);
  if (owns_stream_) cudaStreamDestroy(stream_);
}

void NcclCommunicator::Abort(const Status& reason) {
  WEFT_CHECK(!reason.ok()) << "Abort needs a reason";
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = reason;
  if (comm_ != nullptr) ncclCommAbort(std::exchange(comm_, nullptr));
}

std::string NcclCommunicator::CurrentOperation() const {
  MutexLock lock(mutex_);
  for (const OperationPtr& operation : under_way_) {
    if (operation->event.Query() == cudaErrorNotReady) return operation->what;
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

WorkPtr NcclCommunicator::Launch(const char* verb, uint64_t sequence, size_t bytes,
                                 const OpOptions& options, const Call& call) {
  auto operation = std::make_shared<NcclOperation>();
  const std::string named = options.name.empty() ? verb : verb + (" " + options.name);
  operation->name = options.name;
  operation->sequence = sequence;
  operation->what = named + " #" + std::to_string(sequence);
  FlightRecorder* recorder = options_.recorder;
  if (recorder != nullptr) {
    operation->record = recorder->Enqueued(named, sequence, bytes);
    recorder->Started(operation->record);
  }
  const auto stream =
      options.stream == nullptr ? stream_ : static_cast<cudaStream_t>(options.stream);
  const Status status = CallNccl(operation.get(), stream, options.timeout, call);
  if (status.ok()) {
    MutexLock lock(mutex_);
    std::erase_if(under_way_,
                  [](const OperationPtr& o) { return o->event.Query() != cudaErrorNotReady; });
    under_way_.push_back(operation);
  } else {
    Abort(status);
    End(operation.get(), failure());
  }
  return std::make_unique<NcclWork>(this, std::move(operation), options.timeout);
}

Status NcclCommunicator::CallNccl(NcclOperation* operation, cudaStream_t stream, Duration timeout,
                                  const Call& call) {
  {
    MutexLock lock(mutex_);
    WEFT_RETURN_IF_ERROR(failure_);
    WEFT_RETURN_IF_ERROR(FromNccl(call(comm_, stream), operation->what));
  }
  // The event may be recorded only after NCCL has put its kernels on the stream.
  WEFT_RETURN_IF_ERROR(WaitUntilReady(operation->what, Clock::now() + timeout));
  WEFT_ASSIGN_OR_RETURN(operation->event, CudaEvent::Record(stream));
  return OkStatus();
}

Status NcclCommunicator::CheckAsync(const std::string& what, bool* ready) {
  MutexLock lock(mutex_);
  WEFT_RETURN_IF_ERROR(failure_);
  ncclResult_t state = ncclSuccess;
  WEFT_RETURN_IF_ERROR(FromNccl(ncclCommGetAsyncError(comm_, &state), what));
  *ready = state != ncclInProgress;
  return FromNccl(state, what);
}

Status NcclCommunicator::WaitUntilReady(const std::string& what, TimePoint deadline) {
  Pause pause;
  for (;;) {
    bool ready = false;
    WEFT_RETURN_IF_ERROR(CheckAsync(what, &ready));
    if (ready) return OkStatus();
    if (Clock::now() >= deadline)
      return DeadlineExceeded(what + ": NCCL was not ready in time; is a peer missing?");
    pause.Sleep();
  }
}

Status NcclCommunicator::WaitFor(NcclOperation* operation, Duration timeout) {
  const TimePoint deadline = Clock::now() + timeout;
  Pause pause;
  while (!operation->ended) {
    const cudaError_t state = operation->event.Query();
    bool ready = false;
    Status status = OkStatus();
    if (state == cudaSuccess) {
      End(operation, OkStatus());
      break;
    }
    if (state != cudaErrorNotReady) {
      status = FromCuda(state, operation->what);
    } else {
      status = CheckAsync(operation->what, &ready);
      if (status.ok() && Clock::now() >= deadline) {
        status = DeadlineExceeded(operation->what + ": not done after " +
                                  HumanSeconds(ToSeconds(timeout)));
      }
    }
    if (!status.ok()) {
      Abort(status);
      End(operation, failure());  // the first cause
      break;
    }
    pause.Sleep();
  }
  return operation->status;
}

void NcclCommunicator::End(NcclOperation* operation, const Status& status) {
  operation->ended = true;
  operation->status = status;
  if (options_.recorder != nullptr) options_.recorder->Ended(operation->record, status.ok());
}

}  // namespace

StatusOr<NcclUniqueId> MakeNcclUniqueId() {
  ncclUniqueId id;
  WEFT_RETURN_IF_ERROR(FromNccl(ncclGetUniqueId(&id), "ncclGetUniqueId"));
  NcclUniqueId bytes;
  std::memcpy(bytes.data(), &id, sizeof(id));
  return bytes;
}

StatusOr<std::string> NcclVersion() {
  int version = 0;
  WEFT_RETURN_IF_ERROR(FromNccl(ncclGetVersion(&version), "ncclGetVersion"));
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

StatusOr<std::unique_ptr<Communicator>> ConnectNccl(const NcclOptions& options) {
  return NcclCommunicator::Connect(options);
}

}  // namespace weft
