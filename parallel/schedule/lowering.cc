#include "parallel/schedule/lowering.h"

#include <utility>

namespace weft {
namespace {

bool UsesParameters(const Action& action) {
  return action.kind == ActionKind::kForward || action.kind == ActionKind::kBackward ||
         action.kind == ActionKind::kBackwardInput;
}

bool AddsGradients(const Action& action) {
  return action.kind == ActionKind::kBackward || action.kind == ActionKind::kBackwardWeight;
}

// Which uses of parameters come after a gather, and which before a release.
class GatherPlan {
 public:
  GatherPlan(const ProgramSpec& spec, const RankProgram& order)
      : order_(order), opens_(order.size()), closes_(order.size()), next_(order.size()) {
    if (spec.zero_stage < 3) return;
    std::vector<size_t> last(static_cast<size_t>(spec.num_stages()), order.size());
    size_t previous = order.size();
    for (size_t i = 0; i < order.size(); ++i) {
      if (!UsesParameters(order[i])) continue;
      size_t& before = last[static_cast<size_t>(order[i].stage)];
      opens_[i] = spec.GathersByMicroBatch() || before == order.size();
      closes_[i] = true;
      if (before < order.size()) closes_[before] = spec.GathersByMicroBatch();
      before = i;
      if (previous < order.size()) next_[previous] = i;
      previous = i;
    }
  }

  // Gathers for the use at `i`, and for the next one if that is of another stage.
  void Before(size_t i, RankProgram* program) {
    if (opens_[i] && ahead_ != i) Add(ActionKind::kGather, i, program);
    const size_t next = next_[i];
    if (next == 0 || !opens_[next] || order_[next].stage == order_[i].stage) return;
    Add(ActionKind::kGather, next, program);
    ahead_ = next;
  }

  void After(size_t i, RankProgram* program) {
    if (closes_[i]) Add(ActionKind::kRelease, i, program);
  }

 private:
  void Add(ActionKind kind, size_t i, RankProgram* program) {
    program->push_back({.kind = kind, .phase = order_[i].phase, .stage = order_[i].stage});
  }

  const RankProgram& order_;
  std::vector<bool> opens_;
  std::vector<bool> closes_;
  // The use after this one; 0: none.
  std::vector<size_t> next_;
  // A use whose gather was done before the one before it.
  size_t ahead_ = static_cast<size_t>(-1);
};

// After the last weight gradient of a slot.
void FinishSlot(const ProgramSpec& spec, const Action& action, RankProgram* program) {
  const int done = action.micro_batch + 1;
  if (!AddsGradients(action) || done % spec.micro_batches_a_slot != 0) return;
  const int slot = done / spec.micro_batches_a_slot - 1;
  Action mark{.kind = ActionKind::kSlotDone, .phase = action.phase, .stage = action.stage};
  mark.round = slot;
  program->push_back(mark);
  mark.kind = ActionKind::kReduce;
  if (spec.zero_stage == 1) {
    if (slot + 1 < spec.max_slots()) return;
    mark.round = 0;
  }
  program->push_back(mark);
}

void AddTies(const ProgramSpec& spec, int rank, RankProgram* program) {
  if (!spec.RunsAnyBackward()) return;
  for (size_t i = 0; i < spec.ties.size(); ++i) {
    const auto [owner, replica] = spec.ties[i];
    Action tie{.kind = ActionKind::kTie};
    tie.phase = static_cast<int>(spec.phases.size()) - 1;
    tie.round = static_cast<int>(i);
    if (spec.RankOfStage(owner) == rank) {
      tie.stage = owner;
      tie.peer = spec.RankOfStage(replica);
    } else if (spec.RankOfStage(replica) == rank) {
      tie.stage = replica;
      tie.peer = spec.RankOfStage(owner);
    } else {
      continue;
    }
    program->push_back(tie);
  }
}

// What crosses from one stage to its neighbour: the messages of every ordered pair of ranks, and where each stands.
class Transfers {
 public:
  explicit Transfers(const ProgramSpec& spec)
      : spec_(spec),
        lanes_(static_cast<size_t>(spec.ranks) * static_cast<size_t>(spec.ranks)),
        received_(lanes_.size()),
        position_(spec.phases.size() * 2 * static_cast<size_t>(spec.num_stages()) *
                  static_cast<size_t>(spec.micro_batches())) {}

  // The send that follows this action, if its neighbour is on another rank.
  bool SendAfter(const Action& action, Action* send) const {
    const bool forward = action.kind == ActionKind::kForward;
    if (!forward && action.kind != ActionKind::kBackward &&
        action.kind != ActionKind::kBackwardInput) {
      return false;
    }
    const int to = action.stage + (forward ? 1 : -1);
    const int first = forward ? 0 : spec_.first_backward_stage;
    if (to < first || to >= spec_.num_stages() || spec_.ranks == 1) return false;
    *send = action;
    send->kind = forward ? ActionKind::kSendForward : ActionKind::kSendBackward;
    send->peer = spec_.RankOfStage(to);
    return true;
  }

  void Sent(const Action& send) {
    Action recv = send;
    recv.kind = send.kind == ActionKind::kSendForward ? ActionKind::kRecvForward
                                                      : ActionKind::kRecvBackward;
    recv.stage += send.kind == ActionKind::kSendForward ? 1 : -1;
    recv.peer = spec_.RankOfStage(send.stage);
    std::vector<Action>& lane = lanes_[Lane(send.peer, recv.peer)];
    lane.push_back(recv);
    position_[Index(recv)] = lane.size();
  }

  // Receives up to the message that this action needs.
  void ReceiveBefore(const Action& action, RankProgram* program) {
    const bool forward = action.kind == ActionKind::kForward;
    Action recv = action;
    recv.kind = forward ? ActionKind::kRecvForward : ActionKind::kRecvBackward;
    const size_t wanted = position_[Index(recv)];
    if (wanted == 0) return;
    const int from = spec_.RankOfStage(action.stage + (forward ? spec_.ranks - 1 : 1));
    const size_t lane = Lane(spec_.RankOfStage(action.stage), from);
    while (received_[lane] < wanted) program->push_back(lanes_[lane][received_[lane]++]);
  }

 private:
  size_t Lane(int to, int from) const {
    return static_cast<size_t>(to) * static_cast<size_t>(spec_.ranks) + static_cast<size_t>(from);
  }
  size_t Index(const Action& recv) const {
    const int direction = recv.kind == ActionKind::kRecvForward ? 0 : 1;
    const int stage = (recv.phase * 2 + direction) * spec_.num_stages() + recv.stage;
    return static_cast<size_t>(stage) * static_cast<size_t>(spec_.micro_batches()) +
           static_cast<size_t>(recv.micro_batch);
  }

  const ProgramSpec& spec_;
  // Receives in the order of the sends; how many of them stand in a list already.
  std::vector<std::vector<Action>> lanes_;
  std::vector<size_t> received_;
  // By receive: 1 + its place in the lane; 0: no message.
  std::vector<size_t> position_;
};

}  // namespace

RankProgram AddCollectives(const ProgramSpec& spec, int rank, const RankProgram& order) {
  RankProgram program;
  program.reserve(order.size() * 2);
  GatherPlan gathers(spec, order);
  for (size_t i = 0; i < order.size(); ++i) {
    gathers.Before(i, &program);
    program.push_back(order[i]);
    gathers.After(i, &program);
    FinishSlot(spec, order[i], &program);
  }
  AddTies(spec, rank, &program);
  return program;
}

void DropMissing(const ProgramSpec& spec, RankProgram* program) {
  std::erase_if(*program, [&](const Action& action) {
    return action.micro_batch >= spec.micro_batches() ||
           (action.kind == ActionKind::kSlotDone && action.round >= spec.own_slots());
  });
}

void AddTransfers(const ProgramSpec& spec, std::vector<RankProgram>* programs) {
  Transfers transfers(spec);
  Action send;
  for (const RankProgram& program : *programs) {
    for (const Action& action : program) {
      if (transfers.SendAfter(action, &send)) transfers.Sent(send);
    }
  }
  for (RankProgram& program : *programs) {
    RankProgram whole;
    whole.reserve(program.size() * 2);
    for (const Action& action : program) {
      if (UsesParameters(action)) transfers.ReceiveBefore(action, &whole);
      whole.push_back(action);
      if (transfers.SendAfter(action, &send)) whole.push_back(send);
    }
    program = std::move(whole);
  }
}

}  // namespace weft
