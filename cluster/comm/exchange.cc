#include "cluster/comm/exchange.h"

#include <algorithm>
#include <cstring>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "cluster/comm/reduce.h"

namespace weft {
namespace {

constexpr uint32_t kMagic = 0x74666577;  // "weft"
constexpr size_t kAlignment = 64;
// What is copied or reduced before looking at the other messages again.
constexpr size_t kSlice = 128 << 10;

size_t Padding(size_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

}  // namespace

const char* OpKindName(OpKind kind) {
  switch (kind) {
    case OpKind::kAllReduce:
      return "all_reduce";
    case OpKind::kAllGather:
      return "all_gather";
    case OpKind::kReduceScatter:
      return "reduce_scatter";
    case OpKind::kBroadcast:
      return "broadcast";
    case OpKind::kAllToAll:
      return "all_to_all";
    case OpKind::kPointToPoint:
      return "send/recv";
    case OpKind::kBarrier:
      return "barrier";
  }
  return "unknown operation";
}

Exchange::Exchange(const Members& members, const OpIdentity& identity, int round)
    : members_(members), identity_(identity), round_(round) {}

Exchange::Header Exchange::MakeHeader(size_t bytes) const {
  Header header{.magic = kMagic,
                .kind = static_cast<uint8_t>(identity_.kind),
                .dtype = identity_.dtype,
                .reduce_op = identity_.reduce_op,
                .round = static_cast<uint8_t>(round_),
                .sequence = identity_.sequence,
                .bytes = bytes,
                .name_hash = Fnv1a64(identity_.name),
                .name = {}};
  identity_.name.copy(header.name, sizeof(header.name) - 1);
  return header;
}

void Exchange::Send(int peer, const void* data, size_t bytes) {
  outgoing_.push_back({.peer = peer,
                       .header = MakeHeader(bytes),
                       .data = static_cast<const std::byte*>(data),
                       .bytes = bytes,
                       .total = sizeof(Header) + bytes + Padding(bytes)});
  ++unfinished_;
}

void Exchange::Receive(int peer, void* data, size_t bytes) {
  incoming_.push_back({.peer = peer,
                       .data = static_cast<std::byte*>(data),
                       .bytes = bytes,
                       .padding = Padding(bytes)});
  ++unfinished_;
}

void Exchange::Reduce(const void* own, void* result, size_t count, DType dtype, ReduceOp op) {
  WEFT_CHECK(!reduction_.has_value());
  for (int peer = 0; peer < members_.size(); ++peer) {
    if (peer != members_.rank) Receive(peer, nullptr, count * DTypeSize(dtype));
  }
  reduction_ = Reduction{.own = static_cast<const std::byte*>(own),
                         .result = static_cast<std::byte*>(result),
                         .count = count,
                         .dtype = dtype,
                         .op = op};
  sources_.resize(members_.links.size());
  if (incoming_.empty() && count > 0) std::memmove(result, own, count * DTypeSize(dtype));
}

bool Exchange::Advance() {
  bool progress = false;
  for (Outgoing& message : outgoing_) progress |= AdvanceSend(message);
  for (Incoming& message : incoming_) progress |= AdvanceReceive(message);
  if (reduction_.has_value()) progress |= AdvanceReduction();
  return progress;
}

bool Exchange::AdvanceSend(Outgoing& message) {
  if (message.sent == message.total) return false;
  static constexpr std::byte kZeros[kAlignment] = {};
  const size_t header = std::min(message.sent, sizeof(Header));
  const size_t payload = std::min(message.sent - header, message.bytes);
  const size_t padding = message.sent - header - payload;
  // sendmsg and writev take what they only read as non-const, too.
  const auto part = [](const void* from, size_t bytes) {
    return iovec{const_cast<void*>(from), bytes};
  };
  const iovec parts[3] = {
      part(reinterpret_cast<const std::byte*>(&message.header) + header, sizeof(Header) - header),
      part(message.data == nullptr ? nullptr : message.data + payload, message.bytes - payload),
      part(kZeros, Padding(message.bytes) - padding)};
  const size_t taken = link(message.peer).Write(parts, 3);
  message.sent += taken;
  if (message.sent == message.total) --unfinished_;
  return taken > 0;
}

bool Exchange::AdvanceReceive(Incoming& message) {
  if (message.done || !error_.ok()) return false;
  if (!message.has_header) return TakeHeader(message);
  if (message.got == message.bytes) return TakePadding(message);
  if (message.data == nullptr) return false;  // AdvanceReduction takes it
  const std::span<const std::byte> arrived = link(message.peer).Peek();
  const size_t n = std::min({arrived.size(), message.bytes - message.got, kSlice});
  if (n == 0) return false;
  std::memcpy(message.data + message.got, arrived.data(), n);
  TakePayload(message, n);
  return true;
}

bool Exchange::AdvanceReduction() {
  Reduction& r = *reduction_;
  const size_t element = DTypeSize(r.dtype);
  size_t count = std::min(r.count - r.reduced, kSlice / element);
  if (count == 0 || !error_.ok()) return false;
  for (Incoming& message : incoming_) {
    if (message.data != nullptr) continue;
    if (!message.has_header) return false;
    const std::span<const std::byte> arrived = link(message.peer).Peek();
    count = std::min(count, arrived.size() / element);
    sources_[static_cast<size_t>(message.peer)] = arrived.data();
  }
  if (count == 0) return false;
  const size_t offset = r.reduced * element;
  sources_[static_cast<size_t>(members_.rank)] = r.own + offset;
  ReduceElements(sources_, r.result + offset, count, r.dtype, r.op);
  r.reduced += count;
  for (Incoming& message : incoming_) {
    if (message.data == nullptr) TakePayload(message, count * element);
  }
  return true;
}

bool Exchange::TakeHeader(Incoming& message) {
  const std::span<const std::byte> arrived = link(message.peer).Peek();
  if (arrived.size() < sizeof(Header)) return false;
  Header theirs;
  std::memcpy(&theirs, arrived.data(), sizeof(Header));
  const Header mine = MakeHeader(message.bytes);
  if (std::memcmp(&theirs, &mine, sizeof(Header)) != 0) {
    error_ = Mismatch(message.peer, theirs, mine);
    return false;
  }
  message.has_header = true;
  const bool ends = message.bytes == 0;
  link(message.peer).Consume(sizeof(Header), ends);
  if (ends) {
    message.done = true;
    --unfinished_;
  }
  return true;
}

void Exchange::TakePayload(Incoming& message, size_t bytes) {
  message.got += bytes;
  const bool ends = message.got == message.bytes && message.padding == 0;
  link(message.peer).Consume(bytes, ends);
  if (ends) {
    message.done = true;
    --unfinished_;
  }
}

bool Exchange::TakePadding(Incoming& message) {
  const size_t n = std::min(message.padding, link(message.peer).Peek().size());
  if (n == 0) return false;
  message.padding -= n;
  message.done = message.padding == 0;
  link(message.peer).Consume(n, message.done);
  if (message.done) --unfinished_;
  return true;
}

bool Exchange::Needs(int peer) const {
  const auto not_arrived = [&](const Incoming& m) {
    if (m.peer != peer || m.done) return false;
    const size_t outstanding = (m.has_header ? 0 : sizeof(Header)) + m.bytes - m.got + m.padding;
    return link(peer).UnreadBytes() < outstanding;
  };
  const auto no_room = [peer](const Outgoing& m) { return m.peer == peer && m.sent < m.total; };
  return std::any_of(incoming_.begin(), incoming_.end(), not_arrived) ||
         std::any_of(outgoing_.begin(), outgoing_.end(), no_room);
}

std::vector<int> Exchange::NeededPeers() const {
  std::vector<int> peers;
  for (int peer = 0; peer < members_.size(); ++peer) {
    if (Needs(peer)) peers.push_back(peer);
  }
  return peers;
}

Status Exchange::Mismatch(int peer, const Header& theirs, const Header& mine) const {
  if (theirs.magic != kMagic)
    return Corruption(members_.Name(peer) + " sent bytes that are no message");
  const auto describe = [](const Header& h) {
    std::string name(h.name, strnlen(h.name, sizeof(h.name)));
    std::string text = std::string(OpKindName(static_cast<OpKind>(h.kind))) + " " + name + " #" +
                       std::to_string(h.sequence) + " (round " + std::to_string(h.round) + ", " +
                       std::to_string(h.bytes) + " bytes";
    const bool typed = h.kind <= static_cast<uint8_t>(OpKind::kReduceScatter);
    if (typed) text += std::string(" of ") + DTypeName(static_cast<DType>(h.dtype));
    return text + ")";
  };
  return FailedPrecondition(
      members_.Name(peer) + " sends for " + describe(theirs) + ", but this rank, " +
      std::to_string(members_.WorldRank(members_.rank)) + ", expects " + describe(mine) +
      "; all ranks must call the same operations in the same order");
}

}  // namespace weft
