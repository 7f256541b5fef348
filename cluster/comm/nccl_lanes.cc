#include "cluster/comm/nccl_lanes.h"

#include <algorithm>

namespace weft::nccl {
namespace {

// Blocks of the GPU for a kernel that may wait for its peer for long.
constexpr int kLaneBlocks = 2;

// Every two ranks once: all but one stand in a circle that turns by one each round; partners are opposite.
LaneRounds AllPairs(int size) {
  const int even = size + size % 2;
  LaneRounds rounds(static_cast<size_t>(even - 1));
  for (int round = 0; round < even - 1; ++round) {
    for (int i = 0; i < even / 2; ++i) {
      const int a = i == 0 ? even - 1 : (round + i) % (even - 1);
      const int b = (round + even - 1 - i) % (even - 1);
      if (std::max(a, b) < size)
        rounds[static_cast<size_t>(round)].emplace_back(std::min(a, b), std::max(a, b));
    }
  }
  return rounds;
}

LaneRounds Ring(int size) {
  LaneRounds rounds(size == 2 ? 1 : size % 2 == 0 ? 2 : 3);
  for (int i = 0; i + 1 < size; ++i) rounds[static_cast<size_t>(i % 2)].emplace_back(i, i + 1);
  if (size > 2) rounds.back().emplace_back(0, size - 1);
  return rounds;
}

Status WaitFor(const Event& event, TimePoint deadline) {
  Pause pause;
  for (;;) {
    const cudaError_t state = event.Query();
    if (state == cudaSuccess) return event.Synchronize();  // other threads know it, too
    if (state != cudaErrorNotReady) return FromCuda(state, "connecting a lane");
    if (Clock::now() >= deadline)
      return DeadlineExceeded("connecting a lane: not done in time; is a peer missing?");
    pause.Sleep();
  }
}

// Carries the first byte.
Status Connect(Lane* lane, bool sends, void* scratch, TimePoint deadline) {
  const cudaStream_t stream = lane->stream->get();
  WEFT_RETURN_IF_ERROR(lane->communication->Call("connecting a lane", deadline, [&](ncclComm_t c) {
    return sends ? ncclSend(scratch, 1, ncclUint8, kLaneReceiver, c, stream)
                 : ncclRecv(scratch, 1, ncclUint8, kLaneSender, c, stream);
  }));
  WEFT_ASSIGN_OR_RETURN(const auto event, Event::Record(stream));
  return WaitFor(*event, deadline);
}

}  // namespace

LaneRounds PlanLanes(int size, NcclLanes lanes) {
  if (size == 1 || lanes == NcclLanes::kNone) return {};
  return lanes == NcclLanes::kRing ? Ring(size) : AllPairs(size);
}

StatusOr<Lanes> Lanes::Make(Communication* group, int rank, int size, NcclLanes lanes,
                            void* scratch, TimePoint deadline) {
  Lanes made;
  made.to_.resize(static_cast<size_t>(size));
  made.from_.resize(static_cast<size_t>(size));
  for (const auto& round : PlanLanes(size, lanes)) {
    const auto own = std::find_if(round.begin(), round.end(), [rank](const auto& pair) {
      return pair.first == rank || pair.second == rank;
    });
    for (const bool upwards : {true, false}) {
      const int color = own == round.end() ? NCCL_SPLIT_NOCOLOR : own->first;
      const bool sends = own != round.end() && (own->first == rank) == upwards;
      WEFT_ASSIGN_OR_RETURN(
          auto communication,
          group->Split(color, sends ? kLaneSender : kLaneReceiver, kLaneBlocks, deadline));
      if (communication == nullptr) continue;
      auto lane = std::make_unique<Lane>();
      lane->communication = std::move(communication);
      WEFT_ASSIGN_OR_RETURN(lane->stream, Stream::Create());
      WEFT_RETURN_IF_ERROR(Connect(lane.get(), sends, scratch, deadline));
      const int peer = own->first == rank ? own->second : own->first;
      (sends ? made.to_ : made.from_)[static_cast<size_t>(peer)] = std::move(lane);
    }
  }
  return made;
}

Status Lanes::HoldUp(cudaStream_t stream) {
  for (const auto* lanes : {&to_, &from_}) {
    for (const auto& lane : *lanes) {
      if (lane == nullptr || lane->last == nullptr) continue;
      WEFT_RETURN_IF_ERROR(lane->last->HoldUp(stream));
      lane->last = nullptr;
    }
  }
  return OkStatus();
}

std::vector<std::shared_ptr<Communication>> Lanes::All() const {
  std::vector<std::shared_ptr<Communication>> all;
  for (const auto* lanes : {&to_, &from_}) {
    for (const auto& lane : *lanes) {
      if (lane != nullptr) all.push_back(lane->communication);
    }
  }
  return all;
}

}  // namespace weft::nccl
