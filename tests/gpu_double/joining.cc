#include "tests/gpu_double/joining.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

namespace weft::testing {
namespace {

// The board that all members of a split find: the first that is free or claimed for it.
int ClaimBoard(Family& family, uint64_t id) {
  for (int index = 1; index < kMostBoards; ++index) {
    uint64_t found = 0;
    if (family.boards[index].id.compare_exchange_strong(found, id) || found == id) return index;
  }
  return -1;
}

// All members of the parent have said their colour: makes the child and joins it.
ncclResult_t MakeChild(Split* split) {
  const ncclComm& parent = *split->parent;
  Board& board = split->family->boards[parent.index];
  const size_t at = split->number % kMostSplits;
  std::vector<std::pair<int, int>> members;  // key, rank
  for (int rank = 0; rank < parent.size; ++rank) {
    if (board.member[rank].split_color[at] == split->color)
      members.emplace_back(board.member[rank].split_key[at], rank);
  }
  std::sort(members.begin(), members.end());
  const uint64_t id = static_cast<uint64_t>(parent.index + 1) << 48 | split->number << 32 |
                      static_cast<uint32_t>(split->color);
  ncclComm* child = NewComm();
  child->index = ClaimBoard(*split->family, id);
  if (child->index < 0) return Breach("more communicators than the double has room for");
  child->size = static_cast<int>(members.size());
  for (int i = 0; i < child->size; ++i) {
    if (members[static_cast<size_t>(i)].second == parent.rank) child->rank = i;
  }
  child->world_rank = parent.world_rank;
  child->device = parent.device;
  child->blocking = split->blocking;
  child->launches = parent.launches;
  MutexLock lock(child->mutex);
  child->family = split->family;
  Join(child, split->family->boards[child->index]);
  split->child = child;
  return ncclSuccess;
}

}  // namespace

void Join(ncclComm* comm, Board& board) {
  int none = 0;
  if (!board.size.compare_exchange_strong(none, comm->size) && none != comm->size) {
    FailBoard(board, "rank " + std::to_string(comm->rank) + " joins a communicator of " +
                         std::to_string(none) + " ranks as one of " + std::to_string(comm->size));
    return;
  }
  board.world_rank[comm->rank] = comm->world_rank + 1;
  board.device[comm->rank] = comm->device + 1;
  if ((board.joined.fetch_or(1u << comm->rank) & 1u << comm->rank) != 0)
    FailBoard(board, "two ranks call themselves rank " + std::to_string(comm->rank));
}

std::optional<ncclResult_t> Joined(ncclComm* comm, Board& board) {
  if (board.failed != 0) return ncclInvalidUsage;
  if (std::popcount(board.joined.load()) < comm->size) return std::nullopt;
  for (int rank = 0; rank < comm->size; ++rank) {
    if (rank == comm->rank || board.device[rank] != comm->device + 1) continue;
    FailBoard(board, "ranks " + std::to_string(comm->rank) + " and " + std::to_string(rank) +
                         " are on the same device");
    return ncclInvalidUsage;
  }
  if (comm->index == 0 && comm->rank == 0) CloseFamilyFile(comm->id);
  return ncclSuccess;
}

std::optional<ncclResult_t> ProgressSplit(Split* split) {
  const ncclComm& parent = *split->parent;
  Board& board = split->family->boards[parent.index];
  if (split->child == nullptr) {
    for (int rank = 0; rank < parent.size; ++rank) {
      if (board.member[rank].splits < split->number) return std::nullopt;
    }
    if (split->color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
    const ncclResult_t made = MakeChild(split);
    if (made != ncclSuccess) return made;
  }
  const auto joined = Joined(split->child, split->family->boards[split->child->index]);
  // Only now: as NCCL has it, the handle is null while the parent is in progress.
  if (joined == ncclSuccess) *split->made = split->child;
  return joined;
}

}  // namespace weft::testing
