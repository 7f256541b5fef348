// The collectives as rounds of messages (exchange.h): what is sent to whom.
//
// Small all_reduce: everything to everybody, reduced alike on each. Large: each rank reduces its chunk in rank order
// (reduce-scatter by ownership), then all-gather. Broadcast of more than two ranks: scatter, then all-gather.
//
// Errors: those of `run`. Thread rule: the communicator's thread.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/exchange.h"
#include "cluster/comm/members.h"

namespace weft {

class Collectives {
 public:
  // Advances a round until it is done.
  using RunRound = std::function<Status(Exchange&)>;

  // `members` must outlive it.
  Collectives(const Members& members, RunRound run) : members_(members), run_(std::move(run)) {}

  // Counts, dtypes and buffers as in communicator.h.
  Status AllReduce(const OpIdentity& id, void* data, size_t count, DType dtype, ReduceOp op);
  Status AllGather(const OpIdentity& id, const void* send, void* recv, size_t bytes);
  Status ReduceScatter(const OpIdentity& id, const void* send, void* recv, size_t count,
                       DType dtype, ReduceOp op);
  Status Broadcast(const OpIdentity& id, void* data, size_t bytes, int root);
  Status AllToAll(const OpIdentity& id, const std::vector<SendBuffer>& send,
                  const std::vector<RecvBuffer>& recv);
  Status Barrier(const OpIdentity& id);

 private:
  Status FlatAllReduce(const OpIdentity& id, void* data, size_t count, DType dtype, ReduceOp op);
  Status ChunkedAllReduce(const OpIdentity& id, std::byte* data, size_t count, DType dtype,
                          ReduceOp op);
  Status ScatteredBroadcast(const OpIdentity& id, std::byte* data, size_t bytes, int root);

  // Calls `visit(peer)` for all others, the next higher rank first, so that not everybody starts
  // with rank 0.
  template <typename Visit>
  void ForEachPeer(const Visit& visit) const {
    for (int i = 1; i < size(); ++i) visit((rank() + i) % size());
  }
  int rank() const { return members_.rank; }
  int size() const { return members_.size(); }

  const Members& members_;
  const RunRound run_;
  std::vector<std::byte> scratch_;
};

}  // namespace weft
