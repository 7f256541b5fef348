#include "cluster/comm/collectives.h"

#include <algorithm>
#include <cstring>

namespace weft {
namespace {

// An all_reduce whose data, times ranks, is at most this goes to everybody in one round.
constexpr size_t kFlatAllReduceBytes = 64 << 10;
constexpr size_t kScatteredBroadcastBytes = 64 << 10;
// Chunks of a rank are multiples of this many elements (a cache line or more of any type).
constexpr size_t kChunkElements = 64;

struct ElementRange {
  size_t begin;
  size_t count;
};

// Rank r's chunk of `count` elements.
ElementRange ChunkOf(size_t count, int ranks, int r) {
  const size_t per_rank = (count + static_cast<size_t>(ranks) - 1) / static_cast<size_t>(ranks);
  const size_t chunk = (per_rank + kChunkElements - 1) / kChunkElements * kChunkElements;
  const size_t begin = std::min(count, chunk * static_cast<size_t>(r));
  return {.begin = begin, .count = std::min(chunk, count - begin)};
}

}  // namespace

Status Collectives::AllReduce(const OpIdentity& id, void* data, size_t count, DType dtype,
                              ReduceOp op) {
  if (size() == 1) return OkStatus();
  const size_t bytes = count * DTypeSize(dtype);
  return bytes * static_cast<size_t>(size()) <= kFlatAllReduceBytes
             ? FlatAllReduce(id, data, count, dtype, op)
             : ChunkedAllReduce(id, static_cast<std::byte*>(data), count, dtype, op);
}

Status Collectives::FlatAllReduce(const OpIdentity& id, void* data, size_t count, DType dtype,
                                  ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  // Into scratch: the own data must stay until all peers have it.
  scratch_.resize(kFlatAllReduceBytes);
  Exchange exchange(members_, id, 0);
  ForEachPeer([&](int peer) { exchange.Send(peer, data, bytes); });
  exchange.Reduce(data, scratch_.data(), count, dtype, op);
  WEFT_RETURN_IF_ERROR(run_(exchange));
  if (bytes > 0) std::memcpy(data, scratch_.data(), bytes);
  return OkStatus();
}

Status Collectives::ChunkedAllReduce(const OpIdentity& id, std::byte* data, size_t count,
                                     DType dtype, ReduceOp op) {
  const size_t element = DTypeSize(dtype);
  const auto at = [&](int r) { return data + ChunkOf(count, size(), r).begin * element; };
  const auto bytes = [&](int r) { return ChunkOf(count, size(), r).count * element; };
  Exchange scatter(members_, id, 0);
  ForEachPeer([&](int peer) { scatter.Send(peer, at(peer), bytes(peer)); });
  scatter.Reduce(at(rank()), at(rank()), ChunkOf(count, size(), rank()).count, dtype, op);
  WEFT_RETURN_IF_ERROR(run_(scatter));
  Exchange gather(members_, id, 1);
  ForEachPeer([&](int peer) {
    gather.Send(peer, at(rank()), bytes(rank()));
    gather.Receive(peer, at(peer), bytes(peer));
  });
  return run_(gather);
}

Status Collectives::AllGather(const OpIdentity& id, const void* send, void* recv, size_t bytes) {
  auto* out = static_cast<std::byte*>(recv);
  Exchange exchange(members_, id, 0);
  ForEachPeer([&](int peer) {
    exchange.Send(peer, send, bytes);
    exchange.Receive(peer, out + static_cast<size_t>(peer) * bytes, bytes);
  });
  std::byte* own = out + static_cast<size_t>(rank()) * bytes;
  if (bytes > 0 && own != send) std::memmove(own, send, bytes);
  return run_(exchange);
}

Status Collectives::ReduceScatter(const OpIdentity& id, const void* send, void* recv, size_t count,
                                  DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  const auto* in = static_cast<const std::byte*>(send);
  Exchange exchange(members_, id, 0);
  ForEachPeer(
      [&](int peer) { exchange.Send(peer, in + static_cast<size_t>(peer) * bytes, bytes); });
  exchange.Reduce(in + static_cast<size_t>(rank()) * bytes, recv, count, dtype, op);
  return run_(exchange);
}

Status Collectives::Broadcast(const OpIdentity& id, void* data, size_t bytes, int root) {
  if (size() > 2 && bytes > kScatteredBroadcastBytes)
    return ScatteredBroadcast(id, static_cast<std::byte*>(data), bytes, root);
  Exchange exchange(members_, id, 0);
  if (rank() == root) {
    ForEachPeer([&](int peer) { exchange.Send(peer, data, bytes); });
  } else {
    exchange.Receive(root, data, bytes);
  }
  return run_(exchange);
}

// The root sends each rank a chunk of its own and keeps one; then everybody gathers: nobody sends
// much more than `bytes`.
Status Collectives::ScatteredBroadcast(const OpIdentity& id, std::byte* data, size_t bytes,
                                       int root) {
  const auto at = [&](int r) { return data + ChunkOf(bytes, size(), r).begin; };
  const auto length = [&](int r) { return ChunkOf(bytes, size(), r).count; };
  Exchange scatter(members_, id, 0);
  if (rank() == root) {
    ForEachPeer([&](int peer) { scatter.Send(peer, at(peer), length(peer)); });
  } else {
    scatter.Receive(root, at(rank()), length(rank()));
  }
  WEFT_RETURN_IF_ERROR(run_(scatter));
  Exchange gather(members_, id, 1);
  ForEachPeer([&](int peer) {
    if (peer != root) gather.Send(peer, at(rank()), length(rank()));
    if (rank() != root) gather.Receive(peer, at(peer), length(peer));
  });
  return run_(gather);
}

Status Collectives::AllToAll(const OpIdentity& id, const std::vector<SendBuffer>& send,
                             const std::vector<RecvBuffer>& recv) {
  const auto me = static_cast<size_t>(rank());
  Exchange exchange(members_, id, 0);
  ForEachPeer([&](int peer) {
    const auto p = static_cast<size_t>(peer);
    exchange.Send(peer, send[p].data, send[p].bytes);
    exchange.Receive(peer, recv[p].data, recv[p].bytes);
  });
  if (send[me].bytes > 0) std::memmove(recv[me].data, send[me].data, send[me].bytes);
  return run_(exchange);
}

Status Collectives::Barrier(const OpIdentity& id) {
  Exchange exchange(members_, id, 0);
  ForEachPeer([&](int peer) {
    exchange.Send(peer, nullptr, 0);
    exchange.Receive(peer, nullptr, 0);
  });
  return run_(exchange);
}

}  // namespace weft
