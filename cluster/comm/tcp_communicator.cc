#include "cluster/comm/tcp_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/linked_communicator.h"
#include "cluster/comm/tcp_handshake.h"
#include "cluster/comm/tcp_socket.h"

namespace weft {
namespace {

// A peer after the handshake.
struct Peer {
  UniqueFd socket;
  Hello hello;
  // Set if this rank could map the peer's memory.
  std::shared_ptr<Segment> segment;
  std::optional<Ringer> ringer;
};

// The full mesh while it is being made. Each step is a method, called in the order below by
// Connect.
class MeshBuilder {
 public:
  MeshBuilder(const TcpOptions& options, Listener& listener)
      : options_(options),
        listener_(listener),
        size_(static_cast<int>(options.endpoints.size())),
        deadline_(Clock::now() + options.timeout),
        peers_(options.endpoints.size()) {}

  StatusOr<std::unique_ptr<Communicator>> Connect() {
    WEFT_RETURN_IF_ERROR(Prepare());
    WEFT_RETURN_IF_ERROR(CallLowerRanks());
    WEFT_RETURN_IF_ERROR(AcceptHigherRanks());
    WEFT_RETURN_IF_ERROR(HearLowerRanks());
    WEFT_RETURN_IF_ERROR(AgreeOnSharedMemory());
    return Finish();
  }

 private:
  Status Prepare();
  Status CallLowerRanks();
  Status AcceptHigherRanks();
  Status HearLowerRanks();
  Status AgreeOnSharedMemory();
  StatusOr<std::unique_ptr<Communicator>> Finish();

  Listener::Verdict JudgeCaller(Listener::Caller& caller);
  bool IsOtherGroup(const Hello& theirs) const;
  std::vector<std::string> MissingRanks() const;
  Status NobodyCame() const;
  bool MapPeer(Peer* peer);
  int WorldRank(int rank) const {
    return options_.world_ranks.empty() ? rank : options_.world_ranks[static_cast<size_t>(rank)];
  }
  std::string Name(int rank) const { return "rank " + std::to_string(WorldRank(rank)); }
  Peer& peer(int rank) { return peers_[static_cast<size_t>(rank)]; }
  const Peer& peer(int rank) const { return peers_[static_cast<size_t>(rank)]; }

  const TcpOptions& options_;
  Listener& listener_;
  const int size_;
  const TimePoint deadline_;
  Hello mine_;
  std::shared_ptr<Segment> segment_;
  std::unique_ptr<Sleeper> sleeper_;
  std::vector<Peer> peers_;
  std::string last_refusal_;
};

Status MeshBuilder::Prepare() {
  if (options_.rank < 0 || options_.rank >= size_) {
    return InvalidArgument("rank " + std::to_string(options_.rank) + " of " +
                           std::to_string(size_) + " endpoints");
  }
  WEFT_CHECK(options_.world_ranks.empty() ||
             options_.world_ranks.size() == options_.endpoints.size());
  const size_t ring_bytes = options_.ring_bytes == 0 ? RingBytes(size_) : options_.ring_bytes;
  WEFT_ASSIGN_OR_RETURN(mine_, MakeHello(options_.run_token, options_.group));
  WEFT_ASSIGN_OR_RETURN(segment_, Segment::Create(size_, ring_bytes));
  WEFT_ASSIGN_OR_RETURN(sleeper_, Sleeper::Create(segment_));
  mine_.rank = options_.rank;
  mine_.size = size_;
  mine_.world_rank = WorldRank(options_.rank);
  mine_.epoch = options_.epoch;
  mine_.generation = options_.generation;
  mine_.segment_nonce = segment_->nonce();
  mine_.pid = getpid();
  mine_.segment_fd = segment_->fd();
  mine_.ring_fd = sleeper_->ring_fd();
  mine_.ring_bytes = ring_bytes;
  mine_.shared_memory = options_.shared_memory ? 1 : 0;
  return OkStatus();
}

// Says Hello to all of them before it waits for any: a listener's queue takes the connection.
Status MeshBuilder::CallLowerRanks() {
  for (int rank = 0; rank < options_.rank; ++rank) {
    const std::string context = "connecting to " + Name(rank);
    StatusOr<UniqueFd> socket =
        ConnectToEndpoint(options_.endpoints[static_cast<size_t>(rank)], deadline_);
    WEFT_RETURN_IF_ERROR(socket.status().WithContext(context));
    peer(rank).socket = *std::move(socket);
    WEFT_RETURN_IF_ERROR(
        WriteAll(peer(rank).socket.get(), &mine_, sizeof(mine_), deadline_).WithContext(context));
  }
  return OkStatus();
}

Status MeshBuilder::AcceptHigherRanks() {
  listener_.Hear(Clock::now());
  for (;;) {
    listener_.JudgeCallers([this](Listener::Caller& caller) { return JudgeCaller(caller); });
    if (MissingRanks().empty()) return OkStatus();
    if (Clock::now() >= deadline_) return NobodyCame();
    listener_.Hear(deadline_);
  }
}

Listener::Verdict MeshBuilder::JudgeCaller(Listener::Caller& caller) {
  const Hello& theirs = caller.hello;
  Status refusal = CheckSameRun(mine_, theirs);
  if (refusal.ok() && !SameGroup(mine_, theirs) && IsOtherGroup(theirs))
    return Listener::Verdict::kKeep;
  if (refusal.ok()) refusal = CheckHello(mine_, theirs);
  if (refusal.ok() && (theirs.rank < options_.rank || peer(theirs.rank).socket.valid()))
    refusal = FailedPrecondition(Name(theirs.rank) + " is not expected to call, or called before");
  const Answer answer = refusal.ok() ? Accepted(mine_) : RefusedBecause(refusal);
  const Status sent = WriteAll(caller.socket.get(), &answer, sizeof(answer), deadline_);
  if (!refusal.ok()) {
    last_refusal_ = refusal.message();
    WEFT_LOG(WARNING) << Name(options_.rank) << " refused a connection: " << last_refusal_;
  } else if (sent.ok()) {
    peer(theirs.rank).hello = theirs;
    peer(theirs.rank).socket = std::move(caller.socket);
  }
  return Listener::Verdict::kDone;
}

bool MeshBuilder::IsOtherGroup(const Hello& theirs) const {
  const std::vector<std::string>& others = options_.other_groups;
  return others.empty() || std::find(others.begin(), others.end(), GroupOf(theirs)) != others.end();
}

std::vector<std::string> MeshBuilder::MissingRanks() const {
  std::vector<std::string> missing;
  for (int rank = options_.rank + 1; rank < size_; ++rank) {
    if (!peer(rank).socket.valid()) missing.push_back(std::to_string(WorldRank(rank)));
  }
  return missing;
}

Status MeshBuilder::NobodyCame() const {
  std::string message = "no connection from rank " + Join(MissingRanks(), ", ") +
                        (options_.group.empty() ? "" : " for " + options_.group) + " within " +
                        HumanSeconds(ToSeconds(options_.timeout)) + " (listening on " +
                        listener_.endpoint() + ")";
  if (!last_refusal_.empty()) message += "; refused a connection: " + last_refusal_;
  const std::string kept = listener_.KeptGroups();
  if (!kept.empty()) message += "; others wait for " + kept;
  return DeadlineExceeded(message);
}

Status MeshBuilder::HearLowerRanks() {
  for (int rank = 0; rank < options_.rank; ++rank) {
    Answer answer;
    WEFT_RETURN_IF_ERROR(ReadAll(peer(rank).socket.get(), &answer, sizeof(answer), deadline_)
                             .WithContext("waiting for the answer of " + Name(rank)));
    WEFT_RETURN_IF_ERROR(CheckAnswer(mine_, answer, rank, Name(rank)));
    peer(rank).hello = answer.hello;
  }
  return OkStatus();
}

// Both ends must be able to map the other's memory (another pid namespace or user cannot); else
// both use the socket.
Status MeshBuilder::AgreeOnSharedMemory() {
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == options_.rank) continue;
    const char mapped = MapPeer(&peer(rank)) ? 1 : 0;
    WEFT_RETURN_IF_ERROR(WriteAll(peer(rank).socket.get(), &mapped, 1, deadline_)
                             .WithContext("handshake with " + Name(rank)));
  }
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == options_.rank) continue;
    char theirs = 0;
    WEFT_RETURN_IF_ERROR(ReadAll(peer(rank).socket.get(), &theirs, 1, deadline_)
                             .WithContext("handshake with " + Name(rank)));
    if (theirs == 0) peer(rank).ringer.reset();
  }
  return OkStatus();
}

bool MeshBuilder::MapPeer(Peer* peer) {
  const Hello& theirs = peer->hello;
  if (!SameHost(mine_, theirs)) return false;
  const auto pid = static_cast<pid_t>(theirs.pid);
  auto segment =
      Segment::Open(pid, theirs.segment_fd, theirs.segment_nonce, size_, theirs.ring_bytes);
  Status status = segment.status();
  if (status.ok()) {
    auto ringer = Ringer::Open(pid, theirs.ring_fd, *segment);
    status = ringer.status();
    if (status.ok()) peer->ringer = *std::move(ringer);
    peer->segment = *std::move(segment);
  }
  if (!status.ok()) {
    WEFT_LOG(WARNING) << "no shared memory with " << Name(theirs.rank)
                      << ", which is on this host (" << status.message()
                      << "): using its socket, which is slower";
  }
  return status.ok();
}

StatusOr<std::unique_ptr<Communicator>> MeshBuilder::Finish() {
  LinkedCommunicatorParts parts;
  parts.members.rank = options_.rank;
  parts.members.world_ranks = options_.world_ranks;
  parts.group = options_.group;
  parts.recorder = options_.recorder;
  int ranks_on_host = 1;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == options_.rank) {
      parts.members.links.push_back(nullptr);
      continue;
    }
    Peer& p = peer(rank);
    WEFT_RETURN_IF_ERROR(SetDataPlaneOptions(p.socket.get()));
    if (std::memcmp(p.hello.boot_id, mine_.boot_id, sizeof(mine_.boot_id)) == 0) ++ranks_on_host;
    if (p.ringer.has_value()) {
      const Ring out = segment_->RingTo(rank);
      const Ring in = p.segment->RingTo(options_.rank);
      parts.members.links.push_back(MakeSharedMemoryLink(
          rank, std::move(p.socket), out, in, *std::move(p.ringer), segment_, p.segment));
    } else {
      parts.members.links.push_back(
          MakeSocketLink(rank, std::move(p.socket), static_cast<size_t>(mine_.ring_bytes)));
    }
  }
  parts.spins = SpinsFor(std::max(ranks_on_host, options_.ranks_on_host));
  parts.sleeper = std::move(sleeper_);
  return MakeLinkedCommunicator(std::move(parts));
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> ConnectTcp(const TcpOptions& options, Listener& listener) {
  return MeshBuilder(options, listener).Connect();
}

}  // namespace weft
