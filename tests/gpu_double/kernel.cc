// How the NCCL double moves and adds numbers. A collective goes in chunks: every member puts its own on its board, all read,
// and nobody goes on before all have read. Sums are taken from the last rank to the first and rounded at each step, as little
// like rank order as NCCL's rings are. A message is done only when the receiver has all of it: NCCL may finish earlier, but
// promises nothing.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>

#include "cluster/base/logging.h"
#include "tests/gpu_double/comm.h"
#include "tests/gpu_double/contract.h"
#include "tests/gpu_double/device_memory.h"

namespace weft::testing {
namespace {

constexpr auto kLook = std::chrono::microseconds(50);
// Who waits this long looks whether it waits for itself.
constexpr auto kSuspicion = std::chrono::milliseconds(20);

float FromBFloat16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

uint16_t ToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <typename T>
T Combine(T a, T b, ncclRedOp_t op) {
  if (op == ncclMax) return std::max(a, b);
  if constexpr (std::is_same_v<T, int64_t>) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  } else {
    return static_cast<T>(a + b);
  }
}

// into = into op from
template <typename T>
void CombineAll(std::byte* into, const std::byte* from, size_t count, ncclRedOp_t op) {
  for (size_t i = 0; i < count; ++i) {
    T a;
    T b;
    std::memcpy(&a, into + i * sizeof(T), sizeof(T));
    std::memcpy(&b, from + i * sizeof(T), sizeof(T));
    a = Combine(a, b, op);
    std::memcpy(into + i * sizeof(T), &a, sizeof(T));
  }
}

void CombineBFloat16(std::byte* into, const std::byte* from, size_t count, ncclRedOp_t op) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t a;
    uint16_t b;
    std::memcpy(&a, into + i * 2, 2);
    std::memcpy(&b, from + i * 2, 2);
    a = ToBFloat16(Combine(FromBFloat16(a), FromBFloat16(b), op));
    std::memcpy(into + i * 2, &a, 2);
  }
}

void CombineTyped(std::byte* into, const std::byte* from, size_t count, ncclDataType_t type,
                  ncclRedOp_t op) {
  switch (type) {
    case ncclFloat32:
      return CombineAll<float>(into, from, count, op);
    case ncclFloat64:
      return CombineAll<double>(into, from, count, op);
    case ncclInt64:
      return CombineAll<int64_t>(into, from, count, op);
    case ncclUint8:
      return CombineAll<uint8_t>(into, from, count, op);
    case ncclBfloat16:
      return CombineBFloat16(into, from, count, op);
    default:
      WEFT_CHECK(false) << "a type that Weft does not use";
  }
}

std::string Describe(const CallShape& shape) {
  char text[120];
  std::snprintf(text, sizeof(text), "%s of %llu elements of type %d, op %d, root %d",
                CallName(shape.kind), static_cast<unsigned long long>(shape.count), shape.type,
                shape.op, shape.root);
  return text;
}

bool SameCall(const CallShape& a, const CallShape& b) {
  return a.kind == b.kind && a.count == b.count && a.type == b.type && a.op == b.op &&
         a.root == b.root;
}

// One kernel at work.
class Kernel {
 public:
  Kernel(ncclComm* comm, std::shared_ptr<Family> family, uint64_t ticket)
      : comm_(comm),
        family_(std::move(family)),
        board_(family_->boards[comm->index]),
        me_(board_.member[comm->rank]) {
    me_.executing.need = 0;
    me_.executing.number = ticket + 1;
  }
  ~Kernel() {
    me_.executing.number = 0;
    me_.executing.need = 0;
  }

  // False: aborted, or the communicator is broken.
  bool Collective(const NcclCall& call);
  bool Messages(std::vector<NcclCall> calls);

 private:
  struct Transfer {
    NcclCall call;
    size_t moved = 0;
    bool begun = false;
    bool headed = false;  // the first chunk was sent or came
    bool done = false;
  };

  bool stopped() const { return comm_->abort || board_.failed != 0; }
  // Waits until `ready`; meanwhile says what it needs.
  template <typename Ready>
  bool WaitUntil(const std::optional<Need>& need, const Ready& ready);
  bool AllReach(std::atomic<uint64_t> MemberBoard::*counter, uint64_t value);
  void Pause(TimePoint since);
  bool Agree(int peer, const CallShape& mine);
  bool Chunk(const NcclCall& call, size_t begin, size_t count);
  void TakeChunk(const NcclCall& call, size_t begin, size_t count);

  PairBoard& PairOf(const Transfer& t) {
    return t.call.sends ? board_.pair[comm_->rank][t.call.peer]
                        : board_.pair[t.call.peer][comm_->rank];
  }
  bool Advance(Transfer* transfer);
  bool AdvanceSend(Transfer* transfer, PairBoard* pair);
  bool AdvanceReceive(Transfer* transfer, PairBoard* pair);
  std::optional<Need> NeedOf(const Transfer& transfer);

  bool StillNeeds(int member, const Need& need) const;
  // Members and their operations, around a circle of waits that begins with this one; empty: there is none.
  std::vector<std::pair<int, uint64_t>> Circle() const;
  void LookForCircle();

  ncclComm* const comm_;
  const std::shared_ptr<Family> family_;
  Board& board_;
  MemberBoard& me_;
};

// ---------------------------------------------------------------- waiting

bool Kernel::StillNeeds(int member, const Need& need) const {
  switch (need.kind) {
    case Need::kCollective:
      return board_.member[need.peer].begun < need.index;
    case Need::kItsReceive:
      return board_.pair[member][need.peer].begun_receives < need.index;
    case Need::kItsSend:
      return board_.pair[need.peer][member].begun_sends < need.index;
  }
  return false;
}

std::vector<std::pair<int, uint64_t>> Kernel::Circle() const {
  std::vector<std::pair<int, uint64_t>> path;
  int member = comm_->rank;
  for (int steps = 0; steps < comm_->size; ++steps) {
    const Executing& executing = board_.member[member].executing;
    const uint64_t number = executing.number;
    const uint64_t bits = executing.need;
    if (number == 0 || bits == 0) return {};
    const Need need = Need::Unpack(bits);
    if (!StillNeeds(member, need)) return {};
    path.emplace_back(member, number);
    member = need.peer;
    if (member == comm_->rank) return path;
  }
  return {};
}

// A communicator does one kernel at a time, so a circle of kernels that each need the next one's rank in another kernel never
// ends. Two equal looks: all of it was true at once between them (kernels are numbered, counters only grow).
void Kernel::LookForCircle() {
  const auto first = Circle();
  if (first.empty()) return;
  std::this_thread::sleep_for(kLook);
  if (Circle() != first) return;
  std::string text = "operations that wait for each other in a circle, each before the other's:";
  for (const auto& [member, number] : first) {
    text += " rank " + std::to_string(member) + " is in " + board_.member[member].executing.what +
            " (kernel " + std::to_string(number) + ");";
  }
  FailBoard(board_, text +
                        " is a group missing (ncclGroupStart, ncclGroupEnd), or the order not "
                        "the same?");
}

void Kernel::Pause(TimePoint since) {
  std::this_thread::sleep_for(kLook);
  if (Clock::now() - since > kSuspicion) LookForCircle();
}

template <typename Ready>
bool Kernel::WaitUntil(const std::optional<Need>& need, const Ready& ready) {
  if (ready()) return !stopped();
  if (need.has_value()) me_.executing.need = need->Pack();
  const TimePoint since = Clock::now();
  while (!stopped()) {
    if (ready()) {
      me_.executing.need = 0;
      return true;
    }
    Pause(since);
  }
  return false;
}

bool Kernel::AllReach(std::atomic<uint64_t> MemberBoard::*counter, uint64_t value) {
  return WaitUntil(std::nullopt, [&] {
    return std::all_of(board_.member, board_.member + comm_->size,
                       [&](const MemberBoard& m) { return m.*counter >= value; });
  });
}

// ---------------------------------------------------------------- collectives

bool Kernel::Agree(int peer, const CallShape& mine) {
  const CallShape& theirs = board_.member[peer].shape;
  const std::string number = " #" + std::to_string(me_.begun.load());
  if (!SameCall(mine, theirs)) {
    FailBoard(board_, "ranks disagree: rank " + std::to_string(comm_->rank) + " calls" + number +
                          " " + Describe(mine) + ", rank " + std::to_string(peer) + " " +
                          Describe(theirs));
    return false;
  }
  const int peer_in_world = board_.world_rank[peer];
  for (int other = 0; other < kMostBoards; ++other) {
    const Board& board = family_->boards[other];
    const auto holds = [&](int rank_in_world) {
      return std::any_of(board.world_rank, board.world_rank + kMostRanks,
                         [&](const auto& r) { return r == rank_in_world; });
    };
    const bool shared = holds(peer_in_world) && holds(comm_->world_rank + 1);
    if (other == comm_->index || !shared || mine.before[other] == theirs.before[other]) continue;
    FailBoard(board_, "communicators used in different orders: before" + number +
                          " of communicator " + std::to_string(comm_->index) + " rank " +
                          std::to_string(comm_->rank) + " launched " +
                          std::to_string(mine.before[other]) + " collectives on communicator " +
                          std::to_string(other) + ", rank " + std::to_string(peer) + " " +
                          std::to_string(theirs.before[other]));
    return false;
  }
  return true;
}

bool Kernel::Collective(const NcclCall& call) {
  std::snprintf(me_.executing.what, sizeof(me_.executing.what), "%s #%llu",
                CallName(call.collective), static_cast<unsigned long long>(call.index));
  me_.shape = call.shape;
  me_.begun = call.index;
  for (int peer = 0; peer < comm_->size; ++peer) {
    const Need need{Need::kCollective, peer, call.index};
    if (!WaitUntil(need, [&] { return board_.member[peer].begun >= call.index; })) return false;
    if (!Agree(peer, call.shape)) return false;
  }
  const bool scatters = call.collective == CallKind::kReduceScatter;
  const size_t elements = scatters ? call.count * static_cast<size_t>(comm_->size) : call.count;
  const size_t most = kStageBytes / TypeSize(call.type);
  for (size_t begin = 0; begin < elements; begin += most) {
    if (!Chunk(call, begin, std::min(most, elements - begin))) return false;
  }
  return true;
}

bool Kernel::Chunk(const NcclCall& call, size_t begin, size_t count) {
  const size_t element = TypeSize(call.type);
  const bool contributes = call.collective != CallKind::kBroadcast || call.root == comm_->rank;
  if (contributes) {
    std::memcpy(me_.stage, static_cast<const std::byte*>(call.send) + begin * element,
                count * element);
  }
  const uint64_t round = ++me_.written;
  if (!AllReach(&MemberBoard::written, round)) return false;
  TakeChunk(call, begin, count);
  me_.read = round;
  return AllReach(&MemberBoard::read, round);
}

void Kernel::TakeChunk(const NcclCall& call, size_t begin, size_t count) {
  const size_t element = TypeSize(call.type);
  auto* recv = static_cast<std::byte*>(call.recv);
  const auto stage = [&](int rank) { return board_.member[rank].stage; };
  if (call.collective == CallKind::kBroadcast) {
    std::memcpy(recv + begin * element, stage(call.root), count * element);
    return;
  }
  if (call.collective == CallKind::kAllGather) {
    for (int rank = 0; rank < comm_->size; ++rank) {
      const size_t at = static_cast<size_t>(rank) * call.count + begin;
      std::memcpy(recv + at * element, stage(rank), count * element);
    }
    return;
  }
  std::vector<std::byte> room(count * element);
  std::byte* sum = room.data();
  std::memcpy(sum, stage(comm_->size - 1), count * element);
  for (int rank = comm_->size - 2; rank >= 0; --rank)
    CombineTyped(sum, stage(rank), count, call.type, call.op);
  size_t first = 0;
  size_t last = begin + count;
  if (call.collective == CallKind::kReduceScatter) {
    first = static_cast<size_t>(comm_->rank) * call.count;
    last = std::min(last, first + call.count);
  }
  const size_t from = std::max(begin, first);
  if (from < last)
    std::memcpy(recv + (from - first) * element, sum + (from - begin) * element,
                (last - from) * element);
}

// ---------------------------------------------------------------- messages

std::optional<Need> Kernel::NeedOf(const Transfer& t) {
  const Need need{t.call.sends ? Need::kItsReceive : Need::kItsSend, t.call.peer, t.call.index};
  if (t.done || !t.begun || !StillNeeds(comm_->rank, need)) return std::nullopt;
  return need;
}

bool Kernel::AdvanceSend(Transfer* t, PairBoard* pair) {
  const size_t total = t->call.count * TypeSize(t->call.type);
  if (pair->written != pair->read) return false;
  if (t->headed && t->moved == total) {
    t->done = true;
    return true;
  }
  pair->total = total;
  pair->chunk = std::min(kStageBytes, total - t->moved);
  if (pair->chunk > 0)
    std::memcpy(pair->stage, static_cast<const std::byte*>(t->call.send) + t->moved, pair->chunk);
  t->moved += pair->chunk;
  t->headed = true;
  ++pair->written;
  return true;
}

bool Kernel::AdvanceReceive(Transfer* t, PairBoard* pair) {
  const size_t total = t->call.count * TypeSize(t->call.type);
  if (pair->written == pair->read) return false;
  if (pair->total != total) {
    FailBoard(board_, "rank " + std::to_string(t->call.peer) + " sends " +
                          std::to_string(pair->total) + " bytes in message #" +
                          std::to_string(t->call.index) + ", rank " + std::to_string(comm_->rank) +
                          " receives " + std::to_string(total));
    return false;
  }
  if (pair->chunk > 0)
    std::memcpy(static_cast<std::byte*>(t->call.recv) + t->moved, pair->stage, pair->chunk);
  t->moved += pair->chunk;
  t->done = t->moved == total;
  ++pair->read;
  return true;
}

bool Kernel::Advance(Transfer* t) {
  PairBoard& pair = PairOf(*t);
  if (!t->begun) {
    // Those before it in the group, between the same two and in the same direction, are done.
    std::atomic<uint64_t>& begun = t->call.sends ? pair.begun_sends : pair.begun_receives;
    begun = t->call.index;
    t->begun = true;
  }
  return t->call.sends ? AdvanceSend(t, &pair) : AdvanceReceive(t, &pair);
}

bool Kernel::Messages(std::vector<NcclCall> calls) {
  std::snprintf(me_.executing.what, sizeof(me_.executing.what), "%s #%llu with rank %d%s",
                calls[0].sends ? "ncclSend" : "ncclRecv",
                static_cast<unsigned long long>(calls[0].index), calls[0].peer,
                calls.size() > 1 ? " and others" : "");
  std::vector<Transfer> transfers;
  for (NcclCall& call : calls) transfers.push_back({.call = std::move(call)});
  TimePoint since = Clock::now();
  while (!stopped()) {
    bool progress = false;
    bool all_done = true;
    bool busy[2][kMostRanks] = {};
    std::optional<Need> need;
    for (Transfer& t : transfers) {
      bool& earlier = busy[t.call.sends][t.call.peer];
      if (!t.done && !earlier) progress |= Advance(&t);
      earlier |= !t.done;
      all_done &= t.done;
      if (!need.has_value()) need = NeedOf(t);
    }
    if (all_done) return true;
    me_.executing.need = need.has_value() ? need->Pack() : 0;
    if (progress) {
      since = Clock::now();
    } else {
      Pause(since);
    }
  }
  return false;
}

}  // namespace

size_t TypeSize(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

void FailBoard(Board& board, const std::string& why) {
  int none = 0;
  if (!board.failed.compare_exchange_strong(none, 1)) return;
  std::snprintf(board.failure, sizeof(board.failure), "%s", why.c_str());
  board.failed = 2;
  NoteBreach(why);
}

void RunKernel(ncclComm* comm, uint64_t ticket, const std::vector<NcclCall>& calls) {
  std::shared_ptr<Family> family;
  {
    MutexLock lock(comm->mutex);
    // One after the other, in the order of the launches, whatever streams they are on.
    while (comm->executed != ticket && !comm->abort)
      comm->changed.WaitUntil(comm->mutex, Clock::now() + std::chrono::hours(24));
    if (comm->abort) return;
    family = comm->family;
    comm->executing = true;
  }
  {
    Kernel kernel(comm, family, ticket);
    std::vector<NcclCall> messages;
    bool good = true;
    for (NcclCall call : calls) {
      call.send = BytesOf(call.send);
      call.recv = BytesOf(call.recv);
      if (call.collective == CallKind::kNone) {
        messages.push_back(call);
      } else {
        good = good && kernel.Collective(call);
      }
    }
    if (!messages.empty() && good) kernel.Messages(std::move(messages));
  }
  Board& board = family->boards[comm->index];
  while (board.failed == 1) std::this_thread::sleep_for(kLook);
  MutexLock lock(comm->mutex);
  if (board.failed != 0 && comm->async_error == ncclSuccess) {
    comm->async_error = ncclInvalidUsage;
    comm->last_error = board.failure;
  }
  comm->executing = false;
  ++comm->executed;
  comm->changed.NotifyAll();
}

}  // namespace weft::testing
