#include "tests/gpu_double/aborting.h"

#include <chrono>
#include <utility>

#include "tests/gpu_double/contract.h"
#include "tests/gpu_double/stream.h"

namespace weft::testing {
namespace {

// Until no kernel of it runs; false: for too long.
bool WaitForKernels(ncclComm* comm, TimePoint deadline) {
  MutexLock lock(comm->mutex);
  while (comm->executing && Clock::now() < deadline) comm->changed.WaitUntil(comm->mutex, deadline);
  return !comm->executing;
}

void Free(ncclComm* comm) {
  std::vector<std::pair<int, uint64_t>> places;
  {
    MutexLock lock(comm->mutex);
    places.swap(comm->places);
    if (comm->launching_on != nullptr) EndLaunch(std::exchange(comm->launching_on, nullptr));
    comm->progress = nullptr;
    comm->family = nullptr;
  }
  for (const auto& [stream, place] : places) ForgetAccesses(stream, place);
}

}  // namespace

void FinishAborts(const std::vector<ncclComm*>& aborted) {
  constexpr auto kTooLong = std::chrono::seconds(3);
  for (ncclComm* comm : aborted) {
    WaitForKernels(comm, Clock::now() + std::chrono::hours(24));
    Free(comm);
  }
  if (aborted.empty()) return;
  for (ncclComm* comm : CommsOfDevice(aborted.front()->device)) {
    if (WaitForKernels(comm, Clock::now() + kTooLong)) continue;
    NoteBreach(
        "ncclCommAbort waits for a kernel of another communicator on the device: abort both in one "
        "group");
  }
}

}  // namespace weft::testing
