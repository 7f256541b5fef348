// Sends and receives under way: a lane to each peer and a lane from each peer. Within a lane messages go in the order of the
// calls, one after the other; lanes go on independently, so that a peer that is late holds up nobody else.
//
// A lane and a collective share the byte stream of a link; that is why they never run at once (progress_thread.h).
// Errors: those of exchange.h, by error(). Thread rule: one thread; nothing blocks.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/exchange.h"
#include "cluster/comm/members.h"
#include "cluster/comm/operation.h"

namespace weft {

class Lanes {
 public:
  using States = std::vector<std::shared_ptr<OpState>>;

  // `members` must outlive it.
  explicit Lanes(const Members& members);

  void Push(Operation operation);
  bool empty() const { return active_.empty(); }
  // Moves what can be moved now, in all lanes; false: nothing could.
  bool Advance();
  const Status& error() const { return error_; }
  // Whether a message under way needs something from the peer.
  bool Needs(int peer) const;

  // Operations that came to the head of their lane, and those that are done, since the last call.
  States TakeStarted() { return std::exchange(started_, {}); }
  States TakeDone() { return std::exchange(done_, {}); }
  // Gives up everything: all that is not done.
  States Clear();

 private:
  struct Lane {
    std::deque<Operation> queue;
    std::optional<Exchange> head;  // of queue.front()
  };

  Lane& LaneOf(const Message& message) {
    const bool send = message.direction == Message::Direction::kSend;
    return lanes_[static_cast<size_t>(message.peer) * 2 + (send ? 0 : 1)];
  }
  void StartHead(Lane* lane);
  // False once the lane is empty.
  bool AdvanceLane(Lane* lane, bool* progress);

  const Members& members_;
  std::vector<Lane> lanes_;
  std::vector<Lane*> active_;  // those with messages
  States started_;
  States done_;
  Status error_;
};

}  // namespace weft
