// The lanes of the nccl backend: for each pair of ranks and direction a communicator of two and a stream.
//
// NCCL connects two ranks at their first message, and holds the call until both have made it; so every lane carries one byte
// when it is made, in an order that all ranks share. Pairs that have no rank in common are made by one split.
//
// Errors: those of nccl_calls.h. Thread rule: one thread.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/nccl_connect.h"

namespace weft::nccl {

// In a lane's communicator.
constexpr int kLaneSender = 0;
constexpr int kLaneReceiver = 1;

struct Lane {
  std::unique_ptr<Stream> stream;
  std::shared_ptr<Communication> communication;  // goes before the stream
  // The last message; null: none yet.
  std::shared_ptr<Event> last;
  uint64_t messages = 0;
};

// Pairs of ranks, lower one first, in rounds; no rank is twice in a round.
using LaneRounds = std::vector<std::vector<std::pair<int, int>>>;
LaneRounds PlanLanes(int size, NcclLanes lanes);

class Lanes {
 public:
  // All ranks of `group`, at about the same time. `scratch`: a byte on the device.
  static StatusOr<Lanes> Make(Communication* group, int rank, int size, NcclLanes lanes,
                              void* scratch, TimePoint deadline);

  // Null where there is none.
  Lane* To(int peer) { return to_[static_cast<size_t>(peer)].get(); }
  Lane* From(int peer) { return from_[static_cast<size_t>(peer)].get(); }
  // What comes on the stream from now on waits for all messages before.
  Status HoldUp(cudaStream_t stream);
  // Of all lanes: an abort of the communicator ends these, too.
  std::vector<std::shared_ptr<Communication>> All() const;

 private:
  std::vector<std::unique_ptr<Lane>> to_;
  std::vector<std::unique_ptr<Lane>> from_;
};

}  // namespace weft::nccl
