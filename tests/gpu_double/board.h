// What the ranks of the NCCL double share: one memory segment for a unique id and all communicators split from it. Ranks are
// threads or processes; the segment is a memfd that the others open through /proc, so nothing is left after kill -9.
//
// Counters only grow, and each has one writer, but where compare-and-swap is said.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace weft::testing {

constexpr int kMostRanks = 8;
constexpr int kMostBoards = 64;
constexpr int kMostSplits = 64;
constexpr size_t kStageBytes = 256 << 10;

enum class CallKind : int { kNone, kAllReduce, kAllGather, kReduceScatter, kBroadcast };
const char* CallName(CallKind kind);

// What all ranks must agree on in a collective.
struct CallShape {
  CallKind kind = CallKind::kNone;
  uint64_t count = 0;
  int type = 0;
  int op = 0;
  int root = 0;
  // How many collectives the rank had launched on each communicator of the family before this one.
  uint32_t before[kMostBoards] = {};
};

// The operation that a member executes, and what it lacks.
struct Executing {
  std::atomic<uint64_t> number;  // 0: none
  std::atomic<uint64_t> need;    // Need::Pack; 0: nothing
  char what[80];
};

// "Member `peer` has not begun its side": of collective number `index`, or of the message `index` to or from it.
struct Need {
  enum Kind : uint64_t { kCollective = 1, kItsReceive = 2, kItsSend = 3 };
  Kind kind;
  int peer;
  uint64_t index;

  uint64_t Pack() const { return kind << 56 | static_cast<uint64_t>(peer) << 48 | index; }
  static Need Unpack(uint64_t bits) {
    return {static_cast<Kind>(bits >> 56), static_cast<int>(bits >> 48 & 0xff),
            bits & 0xffffffffffffu};
  }
};

struct MemberBoard {
  std::atomic<uint64_t> begun;    // collectives
  std::atomic<uint64_t> written;  // chunks in `stage`
  std::atomic<uint64_t> read;
  CallShape shape;  // of collective `begun`
  std::atomic<uint64_t> splits;
  int split_color[kMostSplits];
  int split_key[kMostSplits];
  Executing executing;
  std::byte stage[kStageBytes];
};

// Messages from one member to another.
struct PairBoard {
  // NCCL connects two ranks at their first message and holds both calls until then.
  std::atomic<int> sender_calls;
  std::atomic<int> receiver_calls;
  std::atomic<uint64_t> begun_sends;
  std::atomic<uint64_t> begun_receives;
  std::atomic<uint64_t> written;
  std::atomic<uint64_t> read;
  uint64_t chunk;  // bytes in `stage`
  uint64_t total;  // of the message
  std::byte stage[kStageBytes];
};

// A communicator.
struct Board {
  std::atomic<uint64_t> id;                 // 0: free; claimed by compare-and-swap
  std::atomic<int> size;                    // compare-and-swap
  std::atomic<int> world_rank[kMostRanks];  // plus one
  std::atomic<int> device[kMostRanks];      // plus one
  std::atomic<uint32_t> joined;             // a bit a member
  std::atomic<int> failed;                  // 1: being written, 2: `failure` is there
  char failure[400];
  MemberBoard member[kMostRanks];
  PairBoard pair[kMostRanks][kMostRanks];  // [from][to]
};

struct Family {
  Board boards[kMostBoards];
};

// Makes a family; the id tells where it is.
ncclUniqueId MakeFamily();
// Maps it, once a process; null: it is gone.
std::shared_ptr<Family> OpenFamily(const ncclUniqueId& id);
// All have joined: what has it mapped keeps it. For the process that made it.
void CloseFamilyFile(const ncclUniqueId& id);

}  // namespace weft::testing
