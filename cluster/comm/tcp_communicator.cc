#include "cluster/comm/tcp_communicator.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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
  // A connection that has not said its whole Hello yet. It may be a stranger's: nobody waits for it
  // alone.
  struct Caller {
    UniqueFd socket;
    Hello hello;
    size_t got = 0;
  };

  Status Prepare();
  Status CallLowerRanks();
  Status AcceptHigherRanks();
  Status HearLowerRanks();
  Status AgreeOnSharedMemory();
  StatusOr<std::unique_ptr<Communicator>> Finish();

  void AcceptCallers(std::vector<Caller>* callers);
  // Returns false once the caller has been dealt with, one way or the other.
  bool HearCaller(Caller* caller);
  Status NobodyCame() const;
  bool MapPeer(Peer* peer);
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
  const size_t ring_bytes = options_.ring_bytes == 0 ? RingBytes(size_) : options_.ring_bytes;
  WEFT_ASSIGN_OR_RETURN(mine_, MakeHello(options_.run_token));
  WEFT_ASSIGN_OR_RETURN(segment_, Segment::Create(size_, ring_bytes));
  WEFT_ASSIGN_OR_RETURN(sleeper_, Sleeper::Create(segment_));
  mine_.rank = options_.rank;
  mine_.size = size_;
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
    const std::string context = "connecting to rank " + std::to_string(rank);
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
  std::vector<Caller> callers;
  const auto missing = [this] {
    for (int rank = options_.rank + 1; rank < size_; ++rank) {
      if (!peer(rank).socket.valid()) return true;
    }
    return false;
  };
  while (missing()) {
    std::vector<pollfd> fds{{.fd = listener_.fd(), .events = POLLIN, .revents = 0}};
    for (const Caller& caller : callers)
      fds.push_back({.fd = caller.socket.get(), .events = POLLIN, .revents = 0});
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    if (left <= 0) return NobodyCame();
    poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left + 1, 1000)));
    AcceptCallers(&callers);
    std::erase_if(callers, [this](Caller& caller) { return !HearCaller(&caller); });
  }
  return OkStatus();
}

void MeshBuilder::AcceptCallers(std::vector<Caller>* callers) {
  for (;;) {
    UniqueFd socket(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    callers->push_back({.socket = std::move(socket)});
  }
}

bool MeshBuilder::HearCaller(Caller* caller) {
  auto* into = reinterpret_cast<char*>(&caller->hello) + caller->got;
  const ssize_t n = recv(caller->socket.get(), into, sizeof(Hello) - caller->got, MSG_DONTWAIT);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
  if (n > 0) caller->got += static_cast<size_t>(n);
  if (caller->got < sizeof(Hello)) return true;

  Status verdict = CheckHello(mine_, caller->hello);
  const int rank = caller->hello.rank;
  if (verdict.ok() && (rank < options_.rank || peer(rank).socket.valid())) {
    verdict = FailedPrecondition("rank " + std::to_string(rank) +
                                 " is not expected to call, or called before");
  }
  const Answer answer = verdict.ok() ? Accepted(mine_) : RefusedBecause(verdict);
  const Status sent = WriteAll(caller->socket.get(), &answer, sizeof(answer), deadline_);
  if (!verdict.ok()) {
    last_refusal_ = verdict.message();
    WEFT_LOG(WARNING) << "rank " << options_.rank << " refused a connection: " << last_refusal_;
  } else if (sent.ok()) {
    peer(rank).socket = std::move(caller->socket);
    peer(rank).hello = caller->hello;
  }
  return false;
}

Status MeshBuilder::NobodyCame() const {
  std::vector<std::string> missing;
  for (int rank = options_.rank + 1; rank < size_; ++rank) {
    if (!peer(rank).socket.valid()) missing.push_back(std::to_string(rank));
  }
  std::string message = "no connection from rank " + Join(missing, ", ") + " within " +
                        HumanSeconds(ToSeconds(options_.timeout)) + " (listening on " +
                        listener_.endpoint() + ")";
  if (!last_refusal_.empty()) message += "; refused a connection: " + last_refusal_;
  return DeadlineExceeded(message);
}

Status MeshBuilder::HearLowerRanks() {
  for (int rank = 0; rank < options_.rank; ++rank) {
    Answer answer;
    WEFT_RETURN_IF_ERROR(
        ReadAll(peer(rank).socket.get(), &answer, sizeof(answer), deadline_)
            .WithContext("waiting for the answer of rank " + std::to_string(rank)));
    WEFT_RETURN_IF_ERROR(CheckAnswer(mine_, answer, rank));
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
                             .WithContext("handshake with rank " + std::to_string(rank)));
  }
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == options_.rank) continue;
    char theirs = 0;
    WEFT_RETURN_IF_ERROR(ReadAll(peer(rank).socket.get(), &theirs, 1, deadline_)
                             .WithContext("handshake with rank " + std::to_string(rank)));
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
    WEFT_LOG(WARNING) << "no shared memory with rank " << theirs.rank << ", which is on this host ("
                      << status.message() << "): using its socket, which is slower";
  }
  return status.ok();
}

StatusOr<std::unique_ptr<Communicator>> MeshBuilder::Finish() {
  LinkedCommunicatorParts parts;
  parts.members.rank = options_.rank;
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
  parts.spins = SpinsFor(ranks_on_host);
  parts.sleeper = std::move(sleeper_);
  return MakeLinkedCommunicator(std::move(parts));
}

}  // namespace

StatusOr<std::unique_ptr<Listener>> Listener::Bind(const ListenerOptions& options) {
  WEFT_ASSIGN_OR_RETURN(UniqueFd fd,
                        ListenTcp({.host = options.host, .port = std::to_string(options.port)}));
  WEFT_ASSIGN_OR_RETURN(const int port, LocalPort(fd.get()));
  std::string host = options.advertised_host.empty() ? options.host : options.advertised_host;
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return std::unique_ptr<Listener>(new Listener(std::move(fd), host + ":" + std::to_string(port)));
}

StatusOr<std::unique_ptr<Communicator>> ConnectTcp(const TcpOptions& options, Listener& listener) {
  return MeshBuilder(options, listener).Connect();
}

}  // namespace weft
