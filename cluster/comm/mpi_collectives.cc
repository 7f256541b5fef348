#include "cluster/comm/mpi_collectives.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "cluster/comm/reduce.h"

namespace weft::mpi {
namespace {

// An all_reduce whose data, times ranks, is at most this goes to everybody in one step.
constexpr size_t kFlatAllReduceBytes = 64 << 10;
// What a rank takes from each other at a time, to sum it: bounds the memory.
constexpr size_t kReducePieceBytes = 1 << 20;
// Chunks of a rank are multiples of this many elements.
constexpr size_t kChunkElements = 64;

// One step after the other.
using Step = std::function<Status(Requests*)>;
Steps InOrder(std::vector<Step> steps) {
  return
      [steps = std::move(steps), next = size_t{0}](Requests* requests) mutable -> StatusOr<bool> {
        if (next == steps.size()) return false;
        WEFT_RETURN_IF_ERROR(steps[next++](requests));
        return true;
      };
}

// All of `first`, then all of `second`.
Steps Both(Steps first, Steps second) {
  return [first = std::move(first), second = std::move(second),
          second_half = false](Requests* requests) mutable -> StatusOr<bool> {
    if (!second_half) {
      WEFT_ASSIGN_OR_RETURN(const bool more, first(requests));
      if (more) return true;
      second_half = true;
    }
    return second(requests);
  };
}

bool FitsInt(size_t bytes) { return bytes <= INT_MAX; }

void Copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memmove(to, from, bytes);
}

// ---------------------------------------------------------------- reductions in MPI: integers

bool IsInteger(DType dtype) { return dtype == DType::kInt64 || dtype == DType::kUInt8; }
MPI_Datatype TypeOf(const Calls& calls, DType dtype) {
  return dtype == DType::kInt64 ? calls.int64 : calls.uint8;
}
MPI_Op OpOf(const Calls& calls, ReduceOp op) {
  return op == ReduceOp::kSum ? calls.sum : calls.max;
}

// MPI wants aligned elements; callers need not have them.
using Words = std::shared_ptr<std::vector<int64_t>>;
Words AlignedWords(size_t bytes) { return std::make_shared<std::vector<int64_t>>(bytes / 8 + 1); }

Steps IntegerAllReduce(const Place& place, void* data, size_t count, DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  Words words = AlignedWords(bytes);
  return InOrder({[=](Requests* requests) {
                    Copy(words->data(), data, bytes);
                    MPI_Request request = place.calls->no_request;
                    const int result = place.calls->iallreduce(
                        MPI_IN_PLACE, words->data(), static_cast<int>(count),
                        TypeOf(*place.calls, dtype), OpOf(*place.calls, op), requests->comm(),
                        &request);
                    return requests->Add(result, request, "MPI_Iallreduce");
                  },
                  [=](Requests*) {
                    Copy(data, words->data(), bytes);
                    return OkStatus();
                  }});
}

Steps IntegerReduceScatter(const Place& place, const void* send, void* recv, size_t count,
                           DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  const size_t all_bytes = bytes * static_cast<size_t>(place.size);
  Words in = AlignedWords(all_bytes);
  Words out = AlignedWords(bytes);
  return InOrder({[=](Requests* requests) {
                    Copy(in->data(), send, all_bytes);
                    MPI_Request request = place.calls->no_request;
                    const int result = place.calls->ireduce_scatter_block(
                        in->data(), out->data(), static_cast<int>(count),
                        TypeOf(*place.calls, dtype), OpOf(*place.calls, op), requests->comm(),
                        &request);
                    return requests->Add(result, request, "MPI_Ireduce_scatter_block");
                  },
                  [=](Requests*) {
                    Copy(recv, out->data(), bytes);
                    return OkStatus();
                  }});
}

// ---------------------------------------------------------------- reductions in rank order

// Each rank's part of the data, all in one piece of memory.
struct Parts {
  const std::byte* data = nullptr;
  std::vector<size_t> begins;  // elements
  std::vector<size_t> counts;
};

// The own part of all ranks' data, reduced into `result`, a piece after the other.
class OrderedReduction {
 public:
  OrderedReduction(const Place& place, Parts parts, std::byte* result, DType dtype, ReduceOp op)
      : place_(place),
        parts_(std::move(parts)),
        result_(result),
        dtype_(dtype),
        op_(op),
        piece_(kReducePieceBytes / DTypeSize(dtype)),
        longest_(*std::max_element(parts_.counts.begin(), parts_.counts.end())) {
    const size_t held = std::min(piece_, CountOf(place.rank)) * DTypeSize(dtype);
    scratch_.resize(held * static_cast<size_t>(place.size));
  }

  StatusOr<bool> Next(Requests* requests) {
    if (begin_ > 0) ReducePiece(begin_ - piece_);
    if (begin_ >= longest_) return false;
    const size_t own = PieceOf(place_.rank, begin_);
    for (int i = 1; i < place_.size; ++i) {
      const int peer = (place_.rank + i) % place_.size;
      if (own > 0)
        WEFT_RETURN_IF_ERROR(
            requests->Receive(peer, ScratchOf(peer, own), own * element(), kExchangeTag));
      const size_t theirs = PieceOf(peer, begin_);
      if (theirs > 0)
        WEFT_RETURN_IF_ERROR(
            requests->Send(peer, DataOf(peer, begin_), theirs * element(), kExchangeTag));
    }
    begin_ += piece_;
    return true;
  }

 private:
  size_t element() const { return DTypeSize(dtype_); }
  size_t CountOf(int rank) const { return parts_.counts[static_cast<size_t>(rank)]; }
  // Elements of the piece that begins at `begin`.
  size_t PieceOf(int rank, size_t begin) const {
    return std::min(piece_, CountOf(rank) - std::min(begin, CountOf(rank)));
  }
  const std::byte* DataOf(int rank, size_t begin) const {
    return parts_.data + (parts_.begins[static_cast<size_t>(rank)] + begin) * element();
  }
  std::byte* ScratchOf(int peer, size_t own) {
    return scratch_.data() + static_cast<size_t>(peer) * own * element();
  }
  void ReducePiece(size_t begin) {
    const size_t own = PieceOf(place_.rank, begin);
    if (own == 0) return;
    std::vector<const void*> sources;
    for (int rank = 0; rank < place_.size; ++rank)
      sources.push_back(rank == place_.rank ? DataOf(rank, begin) : ScratchOf(rank, own));
    ReduceElements(sources, result_ + begin * element(), own, dtype_, op_);
  }

  const Place place_;
  const Parts parts_;
  std::byte* const result_;
  const DType dtype_;
  const ReduceOp op_;
  const size_t piece_;
  const size_t longest_;
  size_t begin_ = 0;
  std::vector<std::byte> scratch_;
};

Steps ReduceParts(const Place& place, Parts parts, std::byte* result, DType dtype, ReduceOp op) {
  auto reduction = std::make_shared<OrderedReduction>(place, std::move(parts), result, dtype, op);
  return [reduction](Requests* requests) { return reduction->Next(requests); };
}

// Everybody's data to everybody, who all reduce alike.
Steps FlatAllReduce(const Place& place, void* data, size_t count, DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  auto all = std::make_shared<std::vector<std::byte>>(bytes * static_cast<size_t>(place.size));
  return InOrder({[=](Requests* requests) {
                    MPI_Request request = place.calls->no_request;
                    const int n = static_cast<int>(bytes);
                    const int result =
                        place.calls->iallgather(data, n, place.calls->byte, all->data(), n,
                                                place.calls->byte, requests->comm(), &request);
                    return requests->Add(result, request, "MPI_Iallgather");
                  },
                  [=](Requests*) {
                    std::vector<const void*> sources;
                    for (int rank = 0; rank < place.size; ++rank)
                      sources.push_back(all->data() + static_cast<size_t>(rank) * bytes);
                    ReduceElements(sources, data, count, dtype, op);
                    return OkStatus();
                  }});
}

// Neighbouring chunks, equal but for the last ones.
Parts ChunksOf(void* data, size_t count, int ranks) {
  const auto n = static_cast<size_t>(ranks);
  const size_t per_rank = (count + n - 1) / n;
  const size_t chunk = (per_rank + kChunkElements - 1) / kChunkElements * kChunkElements;
  Parts parts{.data = static_cast<const std::byte*>(data)};
  for (size_t r = 0; r < n; ++r) {
    parts.begins.push_back(std::min(count, chunk * r));
    parts.counts.push_back(std::min(chunk, count - parts.begins.back()));
  }
  return parts;
}

// ---------------------------------------------------------------- copies

// Every rank has its own part of `data`, and gets the others'.
Steps GatherByMessages(const Place& place, std::byte* data, std::vector<size_t> begins,
                       std::vector<size_t> bytes) {
  return InOrder({[=](Requests* requests) -> Status {
    const auto me = static_cast<size_t>(place.rank);
    for (int i = 1; i < place.size; ++i) {
      const int peer = (place.rank + i) % place.size;
      const auto p = static_cast<size_t>(peer);
      WEFT_RETURN_IF_ERROR(requests->Receive(peer, data + begins[p], bytes[p], kExchangeTag));
      WEFT_RETURN_IF_ERROR(requests->Send(peer, data + begins[me], bytes[me], kExchangeTag));
    }
    return OkStatus();
  }});
}

Steps GatherParts(const Place& place, std::byte* data, const std::vector<size_t>& begins,
                  const std::vector<size_t>& bytes) {
  if (!FitsInt(begins.back() + bytes.back())) return GatherByMessages(place, data, begins, bytes);
  // MPI reads them until the end.
  auto ends = std::make_shared<std::pair<std::vector<int>, std::vector<int>>>(
      std::vector<int>(bytes.begin(), bytes.end()), std::vector<int>(begins.begin(), begins.end()));
  return InOrder({[=](Requests* requests) {
    MPI_Request request = place.calls->no_request;
    const int result = place.calls->iallgatherv(MPI_IN_PLACE, 0, place.calls->byte, data,
                                                ends->first.data(), ends->second.data(),
                                                place.calls->byte, requests->comm(), &request);
    return requests->Add(result, request, "MPI_Iallgatherv");
  }});
}

}  // namespace

Steps AllReduceSteps(const Place& place, void* data, size_t count, DType dtype, ReduceOp op) {
  if (place.size == 1) return InOrder({});
  const size_t bytes = count * DTypeSize(dtype);
  if (IsInteger(dtype) && FitsInt(bytes)) return IntegerAllReduce(place, data, count, dtype, op);
  if (bytes * static_cast<size_t>(place.size) <= kFlatAllReduceBytes)
    return FlatAllReduce(place, data, count, dtype, op);
  Parts parts = ChunksOf(data, count, place.size);
  std::vector<size_t> begins;
  std::vector<size_t> sizes;
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    begins.push_back(parts.begins[r] * DTypeSize(dtype));
    sizes.push_back(parts.counts[r] * DTypeSize(dtype));
  }
  auto* base = static_cast<std::byte*>(data);
  std::byte* own = base + begins[static_cast<size_t>(place.rank)];
  return Both(ReduceParts(place, std::move(parts), own, dtype, op),
              GatherParts(place, base, begins, sizes));
}

Steps AllGatherSteps(const Place& place, const void* send, void* recv, size_t bytes) {
  auto* out = static_cast<std::byte*>(recv);
  std::vector<size_t> begins;
  for (int rank = 0; rank < place.size; ++rank) begins.push_back(static_cast<size_t>(rank) * bytes);
  const std::vector<size_t> sizes(begins.size(), bytes);
  std::byte* own = out + begins[static_cast<size_t>(place.rank)];
  Steps copy = InOrder({[=](Requests*) {
    Copy(own, send, bytes);
    return OkStatus();
  }});
  if (!FitsInt(bytes * begins.size()))
    return Both(std::move(copy), GatherByMessages(place, out, begins, sizes));
  return Both(std::move(copy), InOrder({[=](Requests* requests) {
                MPI_Request request = place.calls->no_request;
                const int result = place.calls->iallgather(
                    MPI_IN_PLACE, 0, place.calls->byte, out, static_cast<int>(bytes),
                    place.calls->byte, requests->comm(), &request);
                return requests->Add(result, request, "MPI_Iallgather");
              }}));
}

Steps ReduceScatterSteps(const Place& place, const void* send, void* recv, size_t count,
                         DType dtype, ReduceOp op) {
  const size_t bytes = count * DTypeSize(dtype);
  if (IsInteger(dtype) && FitsInt(bytes * static_cast<size_t>(place.size)))
    return IntegerReduceScatter(place, send, recv, count, dtype, op);
  Parts parts{.data = static_cast<const std::byte*>(send)};
  for (int rank = 0; rank < place.size; ++rank) {
    parts.begins.push_back(static_cast<size_t>(rank) * count);
    parts.counts.push_back(count);
  }
  return ReduceParts(place, std::move(parts), static_cast<std::byte*>(recv), dtype, op);
}

Steps BroadcastSteps(const Place& place, void* data, size_t bytes, int root) {
  constexpr size_t kPiece = size_t{1} << 30;
  return InOrder({[=](Requests* requests) -> Status {
    for (size_t begin = 0; begin < bytes; begin += kPiece) {
      MPI_Request request = place.calls->no_request;
      const int result = place.calls->ibcast(static_cast<std::byte*>(data) + begin,
                                             static_cast<int>(std::min(kPiece, bytes - begin)),
                                             place.calls->byte, root, requests->comm(), &request);
      WEFT_RETURN_IF_ERROR(requests->Add(result, request, "MPI_Ibcast"));
    }
    return OkStatus();
  }});
}

Steps AllToAllSteps(const Place& place, const std::vector<SendBuffer>& send,
                    const std::vector<RecvBuffer>& recv) {
  return InOrder({[=](Requests* requests) -> Status {
    const auto me = static_cast<size_t>(place.rank);
    for (int i = 1; i < place.size; ++i) {
      const auto to = static_cast<size_t>((place.rank + i) % place.size);
      const auto from = static_cast<size_t>((place.rank + place.size - i) % place.size);
      WEFT_RETURN_IF_ERROR(requests->Receive(static_cast<int>(from), recv[from].data,
                                             recv[from].bytes, kExchangeTag));
      WEFT_RETURN_IF_ERROR(
          requests->Send(static_cast<int>(to), send[to].data, send[to].bytes, kExchangeTag));
    }
    Copy(recv[me].data, send[me].data, send[me].bytes);
    return OkStatus();
  }});
}

}  // namespace weft::mpi
