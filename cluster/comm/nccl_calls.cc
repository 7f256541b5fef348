#include "cluster/comm/nccl_calls.h"

namespace weft::nccl {
namespace {

ncclConfig_t NonBlocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

}  // namespace

Status FromCuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return OkStatus();
  return Unavailable(what + ": CUDA: " + cudaGetErrorString(error));
}

Status FromNccl(ncclResult_t result, const std::string& what, ncclComm_t comm) {
  if (result == ncclSuccess || result == ncclInProgress) return OkStatus();
  const char* details = ncclGetLastError(comm);
  std::string message = what + ": NCCL: " + ncclGetErrorString(result);
  if (details != nullptr && details[0] != '\0') message += std::string(" (") + details + ")";
  return Unavailable(message);
}

ncclDataType_t TypeOf(DType dtype) {
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

ncclRedOp_t OpOf(ReduceOp op) { return op == ReduceOp::kSum ? ncclSum : ncclMax; }

StatusOr<std::shared_ptr<Event>> Event::Record(cudaStream_t stream) {
  std::shared_ptr<Event> event(new Event);
  WEFT_RETURN_IF_ERROR(FromCuda(cudaEventCreateWithFlags(&event->event_, cudaEventDisableTiming),
                                "creating an event"));
  WEFT_RETURN_IF_ERROR(FromCuda(cudaEventRecord(event->event_, stream), "recording an event"));
  return event;
}

Status Event::HoldUp(cudaStream_t stream) const {
  return FromCuda(cudaStreamWaitEvent(stream, event_, 0), "a stream waiting for an event");
}

StatusOr<std::unique_ptr<Stream>> Stream::Create() {
  cudaStream_t stream = nullptr;
  WEFT_RETURN_IF_ERROR(
      FromCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream"));
  return std::unique_ptr<Stream>(new Stream(stream));
}

StatusOr<std::shared_ptr<Communication>> Communication::Init(int size, const ncclUniqueId& id,
                                                             int rank, TimePoint deadline) {
  ncclConfig_t config = NonBlocking();
  ncclComm_t comm = nullptr;
  WEFT_RETURN_IF_ERROR(
      FromNccl(ncclCommInitRankConfig(&comm, size, id, rank, &config), "ncclCommInitRankConfig"));
  std::shared_ptr<Communication> made(new Communication(comm));
  WEFT_RETURN_IF_ERROR(made->WaitUntilReady("connecting", deadline));
  return made;
}

StatusOr<std::shared_ptr<Communication>> Communication::Split(int color, int key, int most_blocks,
                                                              TimePoint deadline) {
  ncclConfig_t config = NonBlocking();
  // What shares resources with its parent takes turns with it.
  config.splitShare = 0;
  if (most_blocks > 0) config.maxCTAs = most_blocks;
  ncclComm_t* made = nullptr;
  {
    MutexLock lock(mutex_);
    made_.push_back(std::make_unique<ncclComm_t>(nullptr));
    made = made_.back().get();
  }
  // NCCL writes the new one before it says that the old one is ready.
  WEFT_RETURN_IF_ERROR(Call("ncclCommSplit", deadline, [&](ncclComm_t comm) {
    return ncclCommSplit(comm, color, key, made, &config);
  }));
  if (*made == nullptr) return std::shared_ptr<Communication>();
  std::shared_ptr<Communication> child(new Communication(*made));
  WEFT_RETURN_IF_ERROR(child->WaitUntilReady("ncclCommSplit", deadline));
  return child;
}

Status Communication::Call(const std::string& what, TimePoint deadline,
                           const std::function<ncclResult_t(ncclComm_t)>& call) {
  {
    MutexLock lock(mutex_);
    if (comm_ == nullptr) return Cancelled(what + ": the communicator was aborted");
    WEFT_RETURN_IF_ERROR(FromNccl(call(comm_), what, comm_));
  }
  return WaitUntilReady(what, deadline);
}

Status Communication::Check(const std::string& what, bool* ready) {
  MutexLock lock(mutex_);
  if (comm_ == nullptr) return Cancelled(what + ": the communicator was aborted");
  ncclResult_t state = ncclSuccess;
  WEFT_RETURN_IF_ERROR(FromNccl(ncclCommGetAsyncError(comm_, &state), what));
  *ready = state != ncclInProgress;
  return FromNccl(state, what, comm_);
}

Status Communication::WaitUntilReady(const std::string& what, TimePoint deadline) {
  Pause pause;
  for (;;) {
    bool ready = false;
    WEFT_RETURN_IF_ERROR(Check(what, &ready));
    if (ready) return OkStatus();
    if (Clock::now() >= deadline)
      return DeadlineExceeded(what + ": NCCL was not ready in time; is a peer missing?");
    pause.Sleep();
  }
}

Communication::~Communication() {
  const ncclComm_t comm = Take();
  if (comm != nullptr) ncclCommAbort(comm);
}

void Communication::AbortTogether(const std::vector<std::shared_ptr<Communication>>& all) {
  std::vector<ncclComm_t> taken;
  for (const auto& communication : all) {
    const ncclComm_t comm = communication->Take();
    if (comm != nullptr) taken.push_back(comm);
  }
  // One after the other, the first would wait for the kernels of the last.
  ncclGroupStart();
  for (const ncclComm_t comm : taken) ncclCommAbort(comm);
  ncclGroupEnd();
}

}  // namespace weft::nccl
