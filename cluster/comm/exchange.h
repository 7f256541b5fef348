// One round of messages among the ranks of a communicator: what goes to each peer, what comes from
// each, and what is done with it (copied to its place, or reduced in rank order straight out of the
// peers' rings). A collective is one or two rounds (collectives.h); a message between two ranks is one (lanes.h).
//
// A message is a header of 64 bytes, the payload, and padding to a multiple of 64, so that elements
// never straddle the end of a ring. The header says which operation the sender is in: ranks that
// disagree find out at once, instead of hanging.
//
// Errors: FailedPrecondition names the peer and both operations.
// Thread rule: one thread. Nothing blocks: Advance does what can be done now.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/members.h"

namespace weft {

enum class OpKind : uint8_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kAllToAll,
  kPointToPoint,
  kBarrier
};
// "all_reduce", ...
const char* OpKindName(OpKind kind);

// What both ends of a message must agree on.
struct OpIdentity {
  OpKind kind = OpKind::kBarrier;
  uint8_t dtype = 0;
  uint8_t reduce_op = 0;
  uint64_t sequence = 0;
  std::string name;
};

class Exchange {
 public:
  // `round` tells apart the rounds of one operation. `members` and `identity` must outlive it.
  Exchange(const Members& members, const OpIdentity& identity, int round);

  void Send(int peer, const void* data, size_t bytes);
  void Receive(int peer, void* data, size_t bytes);
  // Receives `count` elements from every peer and reduces them with the own ones, in rank order,
  // into `result` (which may be `own`).
  void Reduce(const void* own, void* result, size_t count, DType dtype, ReduceOp op);

  // Moves what can be moved now; false: nothing could.
  bool Advance();
  bool done() const { return unfinished_ == 0; }
  const Status& error() const { return error_; }
  // Whether the peer must still do something: send bytes that have not arrived, or make room. What has arrived and cannot be
  // used yet (a reduction takes all ranks at once) is nothing that the peer could help with.
  bool Needs(int peer) const;
  std::vector<int> NeededPeers() const;

 private:
  struct Header {
    uint32_t magic;
    uint8_t kind;
    uint8_t dtype;
    uint8_t reduce_op;
    uint8_t round;
    uint64_t sequence;
    uint64_t bytes;
    uint64_t name_hash;
    char name[32];
  };
  static_assert(sizeof(Header) == 64);

  struct Outgoing {
    int peer;
    Header header;
    const std::byte* data;
    size_t bytes;
    size_t total;  // header, payload and padding
    size_t sent = 0;
  };
  struct Incoming {
    int peer;
    std::byte* data;  // null: reduced
    size_t bytes;
    bool has_header = false;
    size_t got = 0;      // of the payload
    size_t padding = 0;  // still to come
    bool done = false;
  };
  struct Reduction {
    const std::byte* own;
    std::byte* result;
    size_t count;
    DType dtype;
    ReduceOp op;
    size_t reduced = 0;
  };

  Header MakeHeader(size_t bytes) const;
  Link& link(int peer) const { return members_.link(peer); }
  bool AdvanceSend(Outgoing& message);
  bool AdvanceReceive(Incoming& message);
  bool AdvanceReduction();
  // True once the header is there and fits; false: not yet, or error_.
  bool TakeHeader(Incoming& message);
  void TakePayload(Incoming& message, size_t bytes);
  bool TakePadding(Incoming& message);
  Status Mismatch(int peer, const Header& theirs, const Header& mine) const;

  const Members& members_;
  const OpIdentity& identity_;
  const int round_;
  std::vector<Outgoing> outgoing_;
  std::vector<Incoming> incoming_;
  std::optional<Reduction> reduction_;
  std::vector<const void*> sources_;  // of the reduction, by rank
  int unfinished_ = 0;
  Status error_;
};

}  // namespace weft
