#include "cluster/comm/in_process_communicator.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/comm/linked_communicator.h"

namespace weft {
namespace {

using PartsByRank = std::vector<LinkedCommunicatorParts>;
using SegmentsByRank = std::vector<std::shared_ptr<Segment>>;

// One direction's view: the link that rank `from` has to rank `to`.
StatusOr<std::unique_ptr<Link>> MakeLink(const PartsByRank& parts, const SegmentsByRank& segments,
                                         int from, int to, UniqueFd socket) {
  const auto& mine = segments[static_cast<size_t>(from)];
  const auto& theirs = segments[static_cast<size_t>(to)];
  const int ring_fd = parts[static_cast<size_t>(to)].sleeper->ring_fd();
  WEFT_ASSIGN_OR_RETURN(Ringer ringer, Ringer::Open(getpid(), ring_fd, theirs));
  return MakeSharedMemoryLink(to, std::move(socket), mine->RingTo(to), theirs->RingTo(from),
                              std::move(ringer), mine, theirs);
}

Status Connect(PartsByRank* parts, const SegmentsByRank& segments, int a, int b) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return ErrnoStatus("socketpair", errno);
  UniqueFd end_a(ends[0]);
  UniqueFd end_b(ends[1]);
  WEFT_ASSIGN_OR_RETURN((*parts)[static_cast<size_t>(a)].members.links[static_cast<size_t>(b)],
                        MakeLink(*parts, segments, a, b, std::move(end_a)));
  WEFT_ASSIGN_OR_RETURN((*parts)[static_cast<size_t>(b)].members.links[static_cast<size_t>(a)],
                        MakeLink(*parts, segments, b, a, std::move(end_b)));
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeInProcessCommunicators(
    int size, const InProcessOptions& options) {
  WEFT_CHECK_GE(size, 1);
  WEFT_CHECK(options.recorders.empty() || options.recorders.size() == static_cast<size_t>(size));
  WEFT_CHECK(options.world_ranks.empty() ||
             options.world_ranks.size() == static_cast<size_t>(size));
  const size_t ring_bytes = options.ring_bytes == 0 ? RingBytes(size) : options.ring_bytes;
  PartsByRank parts(static_cast<size_t>(size));
  SegmentsByRank segments;
  for (int rank = 0; rank < size; ++rank) {
    WEFT_ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment, Segment::Create(size, ring_bytes));
    LinkedCommunicatorParts& own = parts[static_cast<size_t>(rank)];
    WEFT_ASSIGN_OR_RETURN(own.sleeper, Sleeper::Create(segment));
    own.members.rank = rank;
    own.group = options.group;
    own.members.world_ranks = options.world_ranks;
    own.members.links.resize(static_cast<size_t>(size));
    own.recorder =
        options.recorders.empty() ? nullptr : options.recorders[static_cast<size_t>(rank)];
    own.spins = SpinsFor(std::max(size, options.ranks_on_host));
    segments.push_back(std::move(segment));
  }
  for (int a = 0; a < size; ++a) {
    for (int b = a + 1; b < size; ++b) WEFT_RETURN_IF_ERROR(Connect(&parts, segments, a, b));
  }
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (LinkedCommunicatorParts& own : parts)
    communicators.push_back(MakeLinkedCommunicator(std::move(own)));
  return communicators;
}

}  // namespace weft
