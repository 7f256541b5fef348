#include "tests/comm/collective_checks.h"

#include <cmath>
#include <cstring>
#include <sstream>
#include <vector>

#include "tests/comm/elements.h"

namespace weft::testing {
namespace {

constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt64,
                               DType::kUInt8};

// Elements [begin, begin + count) of what rank `me` got; `expected(i)` counts from 0.
template <typename ExpectedFn>
Status Compare(const std::string& what, const Elements& got, size_t begin, size_t count,
               const ExpectedFn& expected, double slack = 0) {
  for (size_t i = 0; i < count; ++i) {
    if (std::abs(got.Get(begin + i) - expected(i)) <= slack) continue;
    std::ostringstream text;
    text << what << ": element " << begin + i << " is " << got.Get(begin + i) << ", not "
         << expected(i);
    return Internal(text.str());
  }
  return Expect(got.EndIntact(), what + " wrote behind the end");
}

std::string Describe(const char* operation, DType dtype, size_t count, size_t offset) {
  std::ostringstream text;
  text << operation << " of " << count << " " << DTypeName(dtype) << " at offset " << offset;
  return text.str();
}

Status CheckAllReduce(Communicator& comm, DType dtype, ReduceOp op, size_t count, size_t offset,
                      bool rank_order) {
  Elements data(dtype, count, offset);
  data.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(comm.AllReduce(data.data(), count, dtype, op, {.name = "sum"})->Wait());
  return Compare(
      Describe("all_reduce", dtype, count, offset), data, 0, count,
      [&](size_t i) { return Reduced(dtype, op, comm.size(), i); },
      rank_order ? 0 : SumSlack(dtype, op));
}

Status CheckReduceScatter(Communicator& comm, DType dtype, ReduceOp op, size_t count, size_t offset,
                          bool rank_order) {
  Elements send(dtype, count * static_cast<size_t>(comm.size()), offset);
  Elements recv(dtype, count, offset);
  send.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(
      comm.ReduceScatter(send.data(), recv.data(), count, dtype, op, {.name = "shard"})->Wait());
  const size_t first = count * static_cast<size_t>(comm.rank());
  return Compare(
      Describe("reduce_scatter", dtype, count, offset), recv, 0, count,
      [&](size_t i) { return Reduced(dtype, op, comm.size(), first + i); },
      rank_order ? 0 : SumSlack(dtype, op));
}

Status CheckAllGather(Communicator& comm, DType dtype, size_t count, size_t offset, bool in_place) {
  Elements send(dtype, count, offset);
  Elements recv(dtype, count * static_cast<size_t>(comm.size()), offset);
  send.Fill(comm.rank());
  const void* from = send.data();
  if (in_place) {
    void* own =
        static_cast<std::byte*>(recv.data()) + static_cast<size_t>(comm.rank()) * send.byte_count();
    std::memcpy(own, send.data(), send.byte_count());
    from = own;
  }
  WEFT_RETURN_IF_ERROR(comm.AllGather(from, recv.data(), count, dtype, {.name = "gather"})->Wait());
  for (int rank = 0; rank < comm.size(); ++rank) {
    WEFT_RETURN_IF_ERROR(Compare(Describe("all_gather", dtype, count, offset), recv,
                                 static_cast<size_t>(rank) * count, count,
                                 [&](size_t i) { return Stored(dtype, rank, i); }));
  }
  return OkStatus();
}

Status CheckBroadcast(Communicator& comm, size_t bytes, size_t offset, int root) {
  Elements data(DType::kUInt8, bytes, offset);
  data.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(comm.Broadcast(data.data(), bytes, root, {.name = "weights"})->Wait());
  return Compare(Describe("broadcast", DType::kUInt8, bytes, offset), data, 0, bytes,
                 [&](size_t i) { return Stored(DType::kUInt8, root, i); });
}

// Rank a sends (a * 7 + b * 3 + 1) * scale bytes to rank b; some of them none.
Status CheckAllToAll(Communicator& comm, size_t scale) {
  const int n = comm.size();
  const auto bytes = [&](int from, int to) {
    return (from + to) % 3 == 1 ? 0 : static_cast<size_t>(from * 7 + to * 3 + 1) * scale;
  };
  std::vector<Elements> out;
  std::vector<Elements> in;
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  for (int peer = 0; peer < n; ++peer) {
    out.emplace_back(DType::kUInt8, bytes(comm.rank(), peer), static_cast<size_t>(peer % 3));
    in.emplace_back(DType::kUInt8, bytes(peer, comm.rank()), static_cast<size_t>(peer % 2));
    out.back().Fill(comm.rank(), static_cast<size_t>(peer));
  }
  for (size_t p = 0; p < out.size(); ++p) {
    send.push_back({out[p].data(), out[p].byte_count()});
    recv.push_back({in[p].data(), in[p].byte_count()});
  }
  WEFT_RETURN_IF_ERROR(comm.AllToAll(send, recv, {.name = "exchange"})->Wait());
  for (int peer = 0; peer < n; ++peer) {
    const Elements& got = in[static_cast<size_t>(peer)];
    WEFT_RETURN_IF_ERROR(Compare("all_to_all", got, 0, got.byte_count(), [&](size_t i) {
      return Stored(DType::kUInt8, peer, i + static_cast<size_t>(comm.rank()));
    }));
  }
  return OkStatus();
}

// Around the ring, all at once: every rank has a send and a receive under way.
Status CheckSendRecv(Communicator& comm, size_t bytes) {
  if (comm.size() == 1) return OkStatus();
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  Elements out(DType::kUInt8, bytes, 1);
  Elements in(DType::kUInt8, bytes, 2);
  out.Fill(comm.rank());
  WorkPtr sent = comm.Send(out.data(), bytes, next, {.name = "p2p"});
  WorkPtr received = comm.Recv(in.data(), bytes, previous, {.name = "p2p"});
  WEFT_RETURN_IF_ERROR(sent->Wait());
  WEFT_RETURN_IF_ERROR(received->Wait());
  return Compare("send/recv", in, 0, bytes,
                 [&](size_t i) { return Stored(DType::kUInt8, previous, i); });
}

}  // namespace

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

Status CheckEverything(Communicator& comm, bool rank_order) {
  const size_t kLarge = 70'001;  // several chunks, and not a multiple of anything
  for (const DType dtype : kAllTypes) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      for (const size_t count : {size_t{0}, size_t{1}, size_t{3}, size_t{1000}}) {
        for (const size_t offset : {0, 1}) {
          WEFT_RETURN_IF_ERROR(CheckAllReduce(comm, dtype, op, count, offset, rank_order));
          WEFT_RETURN_IF_ERROR(CheckReduceScatter(comm, dtype, op, count, offset, rank_order));
        }
      }
    }
    WEFT_RETURN_IF_ERROR(CheckAllReduce(comm, dtype, ReduceOp::kSum, kLarge, 3, rank_order));
    WEFT_RETURN_IF_ERROR(
        CheckReduceScatter(comm, dtype, ReduceOp::kSum, kLarge / 3, 1, rank_order));
    for (const size_t count : {size_t{0}, size_t{1}, size_t{777}, kLarge}) {
      WEFT_RETURN_IF_ERROR(CheckAllGather(comm, dtype, count, 1, false));
      WEFT_RETURN_IF_ERROR(CheckAllGather(comm, dtype, count, 0, true));
    }
  }
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4097}, size_t{1'500'000}}) {
    WEFT_RETURN_IF_ERROR(CheckBroadcast(comm, bytes, 1, static_cast<int>(bytes) % comm.size()));
    WEFT_RETURN_IF_ERROR(CheckSendRecv(comm, bytes));
  }
  for (const size_t scale : {1, 100, 30'000}) WEFT_RETURN_IF_ERROR(CheckAllToAll(comm, scale));
  return comm.Barrier({.name = "end"})->Wait();
}

}  // namespace weft::testing
