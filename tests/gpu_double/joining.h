// How ranks come together in a communicator of the NCCL double, and how one is split. Nothing here waits: what lacks a rank is
// asked again at the next poll.
//
// Thread rule: the caller's thread; the boards are shared with other ranks.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "tests/gpu_double/board.h"
#include "tests/gpu_double/comm.h"

namespace weft::testing {

// This rank is there.
void Join(ncclComm* comm, Board& board);
// Nothing: some are missing.
std::optional<ncclResult_t> Joined(ncclComm* comm, Board& board);

struct Split {
  ncclComm* parent;
  std::shared_ptr<Family> family;
  uint64_t number;
  int color;
  bool blocking;
  ncclComm_t* made;
  ncclComm* child = nullptr;
};

std::optional<ncclResult_t> ProgressSplit(Split* split);

}  // namespace weft::testing
