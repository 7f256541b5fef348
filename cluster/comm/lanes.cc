#include "cluster/comm/lanes.h"

#include <algorithm>
#include <utility>

namespace weft {

Lanes::Lanes(const Members& members) : members_(members), lanes_(members.links.size() * 2) {}

void Lanes::Push(Operation operation) {
  Lane& lane = LaneOf(operation.message);
  lane.queue.push_back(std::move(operation));
  if (lane.queue.size() > 1) return;
  active_.push_back(&lane);
  StartHead(&lane);
}

void Lanes::StartHead(Lane* lane) {
  const Operation& operation = lane->queue.front();
  const Message& message = operation.message;
  lane->head.emplace(members_, operation.state->identity, 0);
  if (message.direction == Message::Direction::kSend) {
    lane->head->Send(message.peer, message.data, message.bytes);
  } else {
    lane->head->Receive(message.peer, message.data, message.bytes);
  }
  started_.push_back(operation.state);
}

bool Lanes::Advance() {
  bool progress = false;
  std::erase_if(active_, [&](Lane* lane) { return !AdvanceLane(lane, &progress); });
  return progress;
}

bool Lanes::AdvanceLane(Lane* lane, bool* progress) {
  *progress |= lane->head->Advance();
  if (error_.ok()) error_ = lane->head->error();
  if (!lane->head->done()) return true;
  done_.push_back(lane->queue.front().state);
  lane->head.reset();
  lane->queue.pop_front();
  if (lane->queue.empty()) return false;
  StartHead(lane);
  *progress = true;
  return true;
}

bool Lanes::Needs(int peer) const {
  return std::any_of(active_.begin(), active_.end(),
                     [peer](const Lane* lane) { return lane->head->Needs(peer); });
}

Lanes::States Lanes::Clear() {
  States states;
  for (Lane* lane : active_) {
    lane->head.reset();
    for (Operation& operation : lane->queue) states.push_back(std::move(operation.state));
    lane->queue.clear();
  }
  active_.clear();
  return states;
}

}  // namespace weft
