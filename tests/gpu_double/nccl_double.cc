// The C interface of the NCCL double. What was asked of a communicator that is not blocking is done when
// ncclCommGetAsyncError is called for the second time after it: who does not poll gets nothing.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

#include "tests/gpu_double/comm.h"
#include "tests/gpu_double/contract.h"
#include "tests/gpu_double/stream.h"

namespace weft::testing {
namespace {

// Handles are never freed, so that a use after the abort is seen for what it is.
struct Handles {
  Mutex mutex;
  std::vector<std::unique_ptr<ncclComm>> comms WEFT_GUARDED_BY(mutex);
  std::string last_error WEFT_GUARDED_BY(mutex);
};

Handles& AllHandles() {
  static Handles handles;
  return handles;
}

ncclComm* NewComm() {
  MutexLock lock(AllHandles().mutex);
  AllHandles().comms.push_back(std::make_unique<ncclComm>());
  return AllHandles().comms.back().get();
}

struct Group {
  int depth = 0;
  std::vector<NcclCall> calls;
  std::vector<ncclComm*> aborts;
};
thread_local Group group;

ncclResult_t Breach(const std::string& what) {
  NoteBreach(what);
  MutexLock lock(AllHandles().mutex);
  AllHandles().last_error = what;
  return ncclInvalidUsage;
}

// Whether `what` may be called now.
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

// Begins what GetAsyncError will do; a blocking communicator has it done here.
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

// ---------------------------------------------------------------- joining

void Join(ncclComm* comm, Board& board) {
  int none = 0;
  if (!board.size.compare_exchange_strong(none, comm->size) && none != comm->size) {
    FailBoard(board, "rank " + std::to_string(comm->rank) + " joins a communicator of " +
                         std::to_string(none) + " ranks as one of " + std::to_string(comm->size));
    return;
  }
  board.world_rank[comm->rank] = comm->world_rank + 1;
  board.device[comm->rank] = comm->device + 1;
  if ((board.joined.fetch_or(1u << comm->rank) & 1u << comm->rank) != 0)
    FailBoard(board, "two ranks call themselves rank " + std::to_string(comm->rank));
}

// Nothing: some are missing.
std::optional<ncclResult_t> Joined(ncclComm* comm, Board& board) {
  if (board.failed != 0) return ncclInvalidUsage;
  if (std::popcount(board.joined.load()) < comm->size) return std::nullopt;
  for (int rank = 0; rank < comm->size; ++rank) {
    if (rank == comm->rank || board.device[rank] != comm->device + 1) continue;
    FailBoard(board, "ranks " + std::to_string(comm->rank) + " and " + std::to_string(rank) +
                         " are on the same device");
    return ncclInvalidUsage;
  }
  if (comm->index == 0 && comm->rank == 0) CloseFamilyFile(comm->id);
  return ncclSuccess;
}

// The board that all members of a split find: the first that is free or claimed for it.
int ClaimBoard(Family& family, uint64_t id) {
  for (int index = 1; index < kMostBoards; ++index) {
    uint64_t found = 0;
    if (family.boards[index].id.compare_exchange_strong(found, id) || found == id) return index;
  }
  return -1;
}

struct Split {
  ncclComm* parent;
  std::shared_ptr<Family> family;
  uint64_t number;
  int color;
  bool blocking;
  ncclComm_t* made;
  ncclComm* child = nullptr;
};

// All members of the parent have said their colour: makes the child and joins it.
ncclResult_t MakeChild(Split* split) {
  const ncclComm& parent = *split->parent;
  Board& board = split->family->boards[parent.index];
  const size_t at = split->number % kMostSplits;
  std::vector<std::pair<int, int>> members;  // key, rank
  for (int rank = 0; rank < parent.size; ++rank) {
    if (board.member[rank].split_color[at] == split->color)
      members.emplace_back(board.member[rank].split_key[at], rank);
  }
  std::sort(members.begin(), members.end());
  const uint64_t id = static_cast<uint64_t>(parent.index + 1) << 48 | split->number << 32 |
                      static_cast<uint32_t>(split->color);
  ncclComm* child = NewComm();
  child->index = ClaimBoard(*split->family, id);
  if (child->index < 0) return Breach("more communicators than the double has room for");
  child->size = static_cast<int>(members.size());
  for (int i = 0; i < child->size; ++i) {
    if (members[static_cast<size_t>(i)].second == parent.rank) child->rank = i;
  }
  child->world_rank = parent.world_rank;
  child->device = parent.device;
  child->blocking = split->blocking;
  child->launches = parent.launches;
  MutexLock lock(child->mutex);
  child->family = split->family;
  Join(child, split->family->boards[child->index]);
  split->child = child;
  return ncclSuccess;
}

std::optional<ncclResult_t> ProgressSplit(Split* split) {
  const ncclComm& parent = *split->parent;
  Board& board = split->family->boards[parent.index];
  if (split->child == nullptr) {
    for (int rank = 0; rank < parent.size; ++rank) {
      if (board.member[rank].splits < split->number) return std::nullopt;
    }
    if (split->color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
    const ncclResult_t made = MakeChild(split);
    if (made != ncclSuccess) return made;
  }
  const auto joined = Joined(split->child, split->family->boards[split->child->index]);
  // Only now: as NCCL has it, the handle is null while the parent is in progress.
  if (joined == ncclSuccess) *split->made = split->child;
  return joined;
}

// ---------------------------------------------------------------- launching

std::vector<Access> Accesses(const NcclCall& call) {
  const size_t bytes = call.count * TypeSize(call.type);
  const size_t all = bytes * static_cast<size_t>(call.comm->size);
  switch (call.collective) {
    case CallKind::kNone:
      return {call.sends ? Access{call.send, bytes, false} : Access{call.recv, bytes, true}};
    case CallKind::kAllGather:
      return {{call.send, bytes, false}, {call.recv, all, true}};
    case CallKind::kReduceScatter:
      return {{call.send, all, false}, {call.recv, bytes, true}};
    default:
      return {{call.send, bytes, false}, {call.recv, bytes, true}};
  }
}

void PutOnStream(ncclComm* comm, const std::vector<NcclCall>& calls) WEFT_REQUIRES(comm->mutex) {
  cudaStream_t stream = calls.front().stream;
  StreamWork work;
  work.what = calls.front().collective == CallKind::kNone
                  ? (calls.front().sends ? "ncclSend" : "ncclRecv")
                  : CallName(calls.front().collective);
  for (const NcclCall& call : calls) {
    for (const Access& access : Accesses(call)) work.accesses.push_back(access);
  }
  work.run = [comm, calls, ticket = comm->launched++] { RunKernel(comm, ticket, calls); };
  comm->launching_on = nullptr;
  EndLaunch(stream);
  comm->places.emplace_back(stream->number, Enqueue(stream, std::move(work)));
}

void Number(NcclCall* call) {
  ncclComm* comm = call->comm;
  if (call->collective == CallKind::kNone) {
    call->index = ++(call->sends ? comm->sends : comm->receives)[call->peer];
    return;
  }
  call->index = ++comm->collectives;
  call->shape = {.kind = call->collective,
                 .count = call->count,
                 .type = call->type,
                 .op = call->op,
                 .root = call->root};
  RankLaunches& launches = *comm->launches;
  MutexLock lock(launches.mutex);
  std::copy_n(launches.collectives, kMostBoards, call->shape.before);
  ++launches.collectives[comm->index];
}

// Whether both sides of every first message have called.
bool Connected(ncclComm* comm, const std::vector<NcclCall>& calls) WEFT_REQUIRES(comm->mutex) {
  bool all = true;
  for (const NcclCall& call : calls) {
    if (call.collective != CallKind::kNone || call.index > 1) continue;
    auto& pairs = comm->family->boards[comm->index].pair;
    PairBoard& pair = call.sends ? pairs[comm->rank][call.peer] : pairs[call.peer][comm->rank];
    (call.sends ? pair.sender_calls : pair.receiver_calls) = 1;
    all = all && pair.sender_calls == 1 && pair.receiver_calls == 1;
  }
  return all;
}

// The calls of a group on one communicator: one kernel.
ncclResult_t Launch(ncclComm* comm, std::vector<NcclCall> calls) {
  for (NcclCall& call : calls) {
    if (call.stream != calls.front().stream)
      return Breach("a group with several streams for one communicator");
    Number(&call);
  }
  BeginLaunch(calls.front().stream);
  {
    MutexLock lock(comm->mutex);
    comm->launching_on = calls.front().stream;
  }
  return Begin(comm, "a launch", [comm, calls]() -> std::optional<ncclResult_t> {
    // The caller holds the communicator's mutex.
    if (!Connected(comm, calls)) return std::nullopt;
    PutOnStream(comm, calls);
    return ncclSuccess;
  });
}

ncclResult_t LaunchGroup(std::vector<NcclCall> calls) {
  std::vector<std::pair<ncclComm*, std::vector<NcclCall>>> by_comm;
  for (NcclCall& call : calls) {
    auto found = std::find_if(by_comm.begin(), by_comm.end(),
                              [&](const auto& entry) { return entry.first == call.comm; });
    if (found == by_comm.end()) found = by_comm.insert(found, {call.comm, {}});
    found->second.push_back(std::move(call));
  }
  ncclResult_t result = ncclSuccess;
  for (auto& [comm, own] : by_comm) {
    const ncclResult_t launched = Launch(comm, std::move(own));
    if (launched != ncclSuccess) result = launched;
  }
  return result;
}

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

// ---------------------------------------------------------------- aborting

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

// CUDA gives memory back when the whole device has nothing to do, and so a kernel of another communicator that waits for a peer
// holds up an abort that is not in one group with its own.
void FinishAborts(const std::vector<ncclComm*>& aborted) {
  constexpr auto kTooLong = std::chrono::seconds(3);
  for (ncclComm* comm : aborted) {
    WaitForKernels(comm, Clock::now() + std::chrono::hours(24));
    Free(comm);
  }
  if (aborted.empty()) return;
  std::vector<ncclComm*> others;
  {
    MutexLock lock(AllHandles().mutex);
    for (const auto& comm : AllHandles().comms) {
      if (comm->device == aborted.front()->device) others.push_back(comm.get());
    }
  }
  for (ncclComm* comm : others) {
    if (WaitForKernels(comm, Clock::now() + kTooLong)) continue;
    NoteBreach(
        "ncclCommAbort waits for a kernel of another communicator on the device: abort both in one "
        "group");
  }
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
    MutexLock lock(AllHandles().mutex);
    text = AllHandles().last_error;
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
