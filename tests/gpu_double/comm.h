// A communicator of the NCCL double: its state, and what every call of the C interface (nccl_double.cc) asks and begins first.
// Joining, launching and aborting have files of their own.
//
// Thread rule: a communicator's mutex guards what says so; the rest is the calling thread's.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/mutex.h"
#include "tests/gpu_double/board.h"

namespace weft::testing {

// A call of ncclAllReduce, ncclSend, ...
struct NcclCall {
  CallKind collective = CallKind::kNone;  // kNone: a message
  bool sends = false;
  int peer = 0;
  const void* send = nullptr;
  void* recv = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int root = 0;
  ncclComm* comm = nullptr;
  cudaStream_t stream = nullptr;
  // Set when it is launched: its number among the collectives, or among the messages to or from the peer.
  uint64_t index = 0;
  CallShape shape;
};

size_t TypeSize(ncclDataType_t type);

// Collectives launched, by communicator of the family: shared by the communicators of a rank.
struct RankLaunches {
  Mutex mutex;
  uint32_t collectives[kMostBoards] WEFT_GUARDED_BY(mutex) = {};
};

// The kernel of one launch, on the stream's thread: all calls of a group on one communicator.
void RunKernel(ncclComm* comm, uint64_t ticket, const std::vector<NcclCall>& calls);

// Breaks the communicator for all its members; the first cause stays, and is noted as a breach.
void FailBoard(Board& board, const std::string& why);

}  // namespace weft::testing

struct ncclComm {
  int index = 0;  // in the family
  int rank = 0;
  int size = 1;
  int world_rank = 0;
  int device = 0;
  bool blocking = true;
  ncclUniqueId id{};
  std::shared_ptr<weft::testing::RankLaunches> launches;
  std::atomic<bool> abort = false;

  weft::Mutex mutex;
  weft::CondVar changed;
  // Null once aborted.
  std::shared_ptr<weft::testing::Family> family WEFT_GUARDED_BY(mutex);
  // What ncclCommGetAsyncError does before it says that the last call is no more in progress; empty: none is. Nothing: not yet.
  std::function<std::optional<ncclResult_t>()> progress WEFT_GUARDED_BY(mutex);
  std::string in_progress WEFT_GUARDED_BY(mutex);  // the call
  int polls WEFT_GUARDED_BY(mutex) = 0;
  ncclResult_t async_error WEFT_GUARDED_BY(mutex) = ncclSuccess;
  std::string last_error WEFT_GUARDED_BY(mutex);
  bool aborted WEFT_GUARDED_BY(mutex) = false;
  uint64_t launched WEFT_GUARDED_BY(mutex) = 0;  // kernels
  uint64_t executed WEFT_GUARDED_BY(mutex) = 0;
  bool executing WEFT_GUARDED_BY(mutex) = false;
  // Where its kernels are: number of the stream, place on it.
  std::vector<std::pair<int, uint64_t>> places WEFT_GUARDED_BY(mutex);
  // Of a launch in progress.
  cudaStream_t launching_on WEFT_GUARDED_BY(mutex) = nullptr;
  // The launching thread's.
  uint64_t collectives = 0;
  uint64_t splits = 0;
  uint64_t sends[weft::testing::kMostRanks] = {};
  uint64_t receives[weft::testing::kMostRanks] = {};
};

namespace weft::testing {

// Never freed, so that a use after the abort is seen for what it is.
ncclComm* NewComm();
std::vector<ncclComm*> CommsOfDevice(int device);

// Notes it; what ncclGetLastError says without a communicator.
ncclResult_t Breach(const std::string& what);
std::string LastBreach();
// Whether `what` may be called now.
ncclResult_t CheckUsable(ncclComm* comm, const std::string& what);
// Begins what GetAsyncError will do; a blocking communicator has it done here.
ncclResult_t Begin(ncclComm* comm, const std::string& what,
                   std::function<std::optional<ncclResult_t>()> progress);

}  // namespace weft::testing
