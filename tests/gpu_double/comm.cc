#include "tests/gpu_double/comm.h"

#include <chrono>
#include <thread>
#include <utility>

#include "tests/gpu_double/contract.h"

namespace weft::testing {
namespace {

struct Handles {
  Mutex mutex;
  std::vector<std::unique_ptr<ncclComm>> comms WEFT_GUARDED_BY(mutex);
  std::string last_error WEFT_GUARDED_BY(mutex);
};

Handles& AllHandles() {
  static Handles handles;
  return handles;
}

}  // namespace

ncclComm* NewComm() {
  MutexLock lock(AllHandles().mutex);
  AllHandles().comms.push_back(std::make_unique<ncclComm>());
  return AllHandles().comms.back().get();
}

std::vector<ncclComm*> CommsOfDevice(int device) {
  std::vector<ncclComm*> comms;
  MutexLock lock(AllHandles().mutex);
  for (const auto& comm : AllHandles().comms) {
    if (comm->device == device) comms.push_back(comm.get());
  }
  return comms;
}

ncclResult_t Breach(const std::string& what) {
  NoteBreach(what);
  MutexLock lock(AllHandles().mutex);
  AllHandles().last_error = what;
  return ncclInvalidUsage;
}

std::string LastBreach() {
  MutexLock lock(AllHandles().mutex);
  return AllHandles().last_error;
}

ncclResult_t CheckUsable(ncclComm* comm, const std::string& what) {
  if (comm == nullptr) return Breach(what + " without a communicator");
  std::string earlier;
  {
    MutexLock lock(comm->mutex);
    if (!comm->aborted && !comm->progress) return ncclSuccess;
    if (!comm->aborted) earlier = comm->in_progress;
  }
  if (earlier.empty()) return Breach(what + " after ncclCommAbort");
  return Breach(what + " while " + earlier +
                " is in progress: poll ncclCommGetAsyncError until it is not");
}

ncclResult_t Begin(ncclComm* comm, const std::string& what,
                   std::function<std::optional<ncclResult_t>()> progress) {
  {
    MutexLock lock(comm->mutex);
    comm->progress = std::move(progress);
    comm->in_progress = what;
    comm->polls = 0;
  }
  if (!comm->blocking) return ncclInProgress;
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(comm, &state) == ncclSuccess && state == ncclInProgress)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  return state;
}

}  // namespace weft::testing
