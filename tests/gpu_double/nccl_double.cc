// The C interface of the NCCL double. What was asked of a communicator that is not blocking is done when
// ncclCommGetAsyncError is called for the second time after it: who does not poll gets nothing.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/gpu_double/aborting.h"
#include "tests/gpu_double/comm.h"
#include "tests/gpu_double/joining.h"
#include "tests/gpu_double/launching.h"

namespace weft::testing {
namespace {

struct Group {
  int depth = 0;
  std::vector<NcclCall> calls;
  std::vector<ncclComm*> aborts;
};
thread_local Group group;

ncclResult_t Submit(const char* what, NcclCall call) {
  const ncclResult_t usable = CheckUsable(call.comm, what);
  if (usable != ncclSuccess) return usable;
  const int other = call.collective == CallKind::kNone ? call.peer : call.root;
  if (other < 0 || other >= call.comm->size) return ncclInvalidArgument;
  // NCCL drops empty collectives, and matches empty messages.
  if (call.collective != CallKind::kNone && call.count == 0) return ncclSuccess;
  if (group.depth == 0) return LaunchGroup({std::move(call)});
  group.calls.push_back(std::move(call));
  return ncclSuccess;
}

}  // namespace
}  // namespace weft::testing

// ---------------------------------------------------------------- the C interface

using namespace weft::
    testing;  // NOLINT: the names of this file, for functions that cannot be in the namespace
using weft::MutexLock;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = MakeFamily();
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInProgress:
      return "operation in progress";
    default:
      return "an error of the double";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  thread_local std::string text;
  if (comm != nullptr) {
    MutexLock lock(comm->mutex);
    text = comm->last_error;
  } else {
    text = LastBreach();
  }
  return text.c_str();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (ranks < 1 || ranks > kMostRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  std::shared_ptr<Family> family = OpenFamily(id);
  if (family == nullptr) return ncclSystemError;
  ncclComm* comm = NewComm();
  comm->rank = comm->world_rank = rank;
  comm->size = ranks;
  comm->id = id;
  cudaGetDevice(&comm->device);
  comm->blocking = config == nullptr || config->blocking != 0;
  comm->launches = std::make_shared<RankLaunches>();
  Board& board = family->boards[0];
  board.id = 1;
  {
    MutexLock lock(comm->mutex);
    comm->family = family;
  }
  Join(comm, board);
  *made = comm;
  return Begin(comm, "ncclCommInitRankConfig",
               [comm, family] { return Joined(comm, family->boards[0]); });
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* made,
                           ncclConfig_t* config) {
  const ncclResult_t usable = CheckUsable(comm, "ncclCommSplit");
  if (usable != ncclSuccess) return usable;
  *made = nullptr;
  auto split = std::make_shared<Split>();
  split->parent = comm;
  split->number = ++comm->splits;
  split->color = color;
  split->blocking = config == nullptr ? comm->blocking : config->blocking != 0;
  split->made = made;
  {
    MutexLock lock(comm->mutex);
    split->family = comm->family;
  }
  MemberBoard& mine = split->family->boards[comm->index].member[comm->rank];
  const size_t at = split->number % kMostSplits;
  mine.split_color[at] = color;
  mine.split_key[at] = key;
  mine.splits = split->number;
  return Begin(comm, "ncclCommSplit", [split] { return ProgressSplit(split.get()); });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  if (comm == nullptr) return Breach("ncclCommGetAsyncError without a communicator");
  if (group.depth > 0)
    return Breach("ncclCommGetAsyncError in an open group: ncclGroupEnd is missing");
  bool aborted = false;
  {
    MutexLock lock(comm->mutex);
    aborted = comm->aborted;
    if (!aborted) {
      *error = comm->async_error;
      if (comm->progress) {
        const auto state = comm->polls++ == 0 ? std::nullopt : comm->progress();
        *error = state.value_or(ncclInProgress);
        if (state.has_value()) comm->progress = nullptr;
        if (state.has_value() && *state != ncclSuccess) {
          comm->async_error = *state;
          comm->last_error = comm->family->boards[comm->index].failure;
        }
      }
    }
  }
  return aborted ? Breach("ncclCommGetAsyncError after ncclCommAbort") : ncclSuccess;
}

// Returns when no kernel of the communicator runs any more, nor of another one on the device.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclInvalidArgument;
  {
    MutexLock lock(comm->mutex);
    if (comm->aborted) return Breach("ncclCommAbort twice");
    comm->aborted = comm->abort = true;
    comm->changed.NotifyAll();
  }
  if (group.depth > 0) {
    group.aborts.push_back(comm);
  } else {
    FinishAborts({comm});
  }
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return Breach("ncclGroupEnd without ncclGroupStart");
  if (--group.depth > 0) return ncclSuccess;
  FinishAborts(std::exchange(group.aborts, {}));
  return LaunchGroup(std::exchange(group.calls, {}));
}

ncclResult_t ncclAllReduce(const void* send, void* recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Submit("ncclAllReduce", {.collective = CallKind::kAllReduce,
                                  .send = send,
                                  .recv = recv,
                                  .count = count,
                                  .type = type,
                                  .op = op,
                                  .comm = comm,
                                  .stream = stream});
}

ncclResult_t ncclAllGather(const void* send, void* recv, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Submit("ncclAllGather", {.collective = CallKind::kAllGather,
                                  .send = send,
                                  .recv = recv,
                                  .count = count,
                                  .type = type,
                                  .comm = comm,
                                  .stream = stream});
}

ncclResult_t ncclReduceScatter(const void* send, void* recv, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Submit("ncclReduceScatter", {.collective = CallKind::kReduceScatter,
                                      .send = send,
                                      .recv = recv,
                                      .count = count,
                                      .type = type,
                                      .op = op,
                                      .comm = comm,
                                      .stream = stream});
}

ncclResult_t ncclBroadcast(const void* send, void* recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return Submit("ncclBroadcast", {.collective = CallKind::kBroadcast,
                                  .send = send,
                                  .recv = recv,
                                  .count = count,
                                  .type = type,
                                  .root = root,
                                  .comm = comm,
                                  .stream = stream});
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Submit("ncclSend", {.sends = true,
                             .peer = peer,
                             .send = send,
                             .count = count,
                             .type = type,
                             .comm = comm,
                             .stream = stream});
}

ncclResult_t ncclRecv(void* recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return Submit(
      "ncclRecv",
      {.peer = peer, .recv = recv, .count = count, .type = type, .comm = comm, .stream = stream});
}

}  // extern "C"
