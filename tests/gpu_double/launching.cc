#include "tests/gpu_double/launching.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/gpu_double/stream.h"

namespace weft::testing {
namespace {

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

}  // namespace

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

}  // namespace weft::testing
