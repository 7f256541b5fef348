#include "tests/schedule/reference_machine.h"

#include <algorithm>

namespace weft {

ReferenceMachine::ReferenceMachine(const ProgramSpec& spec, std::span<const RankProgram> programs,
                                   unsigned seed)
    : spec_(spec),
      programs_(programs),
      random_(seed),
      next_(programs.size()),
      stages_(static_cast<size_t>(spec.num_stages())),
      tie_arrivals_(spec.ties.size(), std::vector<bool>(programs.size())) {}

std::optional<ReferenceMachine::Value> ReferenceMachine::Run() {
  std::vector<int> order(programs_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  for (bool moved = true; moved && ok_;) {
    moved = false;
    std::shuffle(order.begin(), order.end(), random_);
    for (const int rank : order) {
      size_t& next = next_[static_cast<size_t>(rank)];
      const RankProgram& program = programs_[static_cast<size_t>(rank)];
      for (unsigned turns = 1 + random_() % 4; turns > 0 && next < program.size(); --turns) {
        if (!ok_ || !Execute(rank, program[next])) break;
        ++next;
        moved = true;
      }
    }
  }
  for (size_t rank = 0; rank < programs_.size(); ++rank)
    ok_ &= next_[rank] == programs_[rank].size();
  for (const auto& [unused, lane] : lanes_) ok_ &= lane.empty();
  Value result = joined_;
  for (const Stage& stage : stages_) {
    ok_ &= !stage.gathered;
    result = Mix(Mix(result, stage.reduced), stage.main_grad);
  }
  // Forwards whose output nobody else sees.
  for (const auto& [key, value] : outputs_) result = Mix(result, value);
  if (!ok_) return {};
  return result;
}

ReferenceMachine::Value ReferenceMachine::Mix(Value a, Value b) {
  Value x = a * 0x9e3779b97f4a7c15U + b + 0x7f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  return x ^ (x >> 27);
}

int ReferenceMachine::ForwardPhase(int phase) const {
  if (spec_.RunsForward(phase)) return phase;
  int forward = phase;
  while (forward > 0 &&
         (!spec_.RunsForward(forward) || spec_.phases[static_cast<size_t>(forward)].wave !=
                                             spec_.phases[static_cast<size_t>(phase)].wave))
    --forward;
  return forward;
}

ReferenceMachine::Value ReferenceMachine::Take(const std::map<Key, Value>& from, Key key) {
  const auto it = from.find(key);
  if (it == from.end()) {
    ok_ = false;
    return 0;
  }
  return it->second;
}

void ReferenceMachine::Forward(const Action& action) {
  const Key key{action.phase, action.stage, action.micro_batch};
  const int wave = spec_.phases[static_cast<size_t>(action.phase)].wave;
  Value input = Mix(static_cast<Value>(wave), static_cast<Value>(action.micro_batch));
  if (action.stage > 0) {
    const Key before{action.phase, action.stage - 1, action.micro_batch};
    input = spec_.ranks == 1 ? Take(outputs_, before) : Take(inputs_, key);
  }
  if (spec_.zero_stage == 3) ok_ &= stages_[static_cast<size_t>(action.stage)].gathered;
  ok_ &= outputs_.count(key) == 0;
  outputs_[key] = Mix(static_cast<Value>(action.stage), input);
  saved_[key] = outputs_[key];
}

void ReferenceMachine::Backward(const Action& action, bool input, bool weight) {
  Stage& stage = stages_[static_cast<size_t>(action.stage)];
  const Key key{action.phase, action.stage, action.micro_batch};
  const Key forward{ForwardPhase(action.phase), action.stage, action.micro_batch};
  const Value saved = Take(saved_, forward);
  if (input) {
    Value grad = joined_;
    if (action.stage + 1 < spec_.num_stages()) {
      const Key after{action.phase, action.stage + 1, action.micro_batch};
      grad = spec_.ranks == 1 ? Take(input_grads_, after) : Take(output_grads_, key);
    }
    if (spec_.zero_stage == 3) ok_ &= stage.gathered;
    ok_ &= input_grads_.count(key) == 0;
    input_grads_[key] = Mix(grad, saved);
  }
  if (weight) {
    stage.main_grad = Mix(stage.main_grad, Take(input_grads_, key));
    saved_.erase(forward);
  }
}

bool ReferenceMachine::Receive(int rank, const Action& action) {
  std::deque<Value>& lane = lanes_[{rank, action.peer}];
  if (lane.empty()) return false;
  const Key key{action.phase, action.stage, action.micro_batch};
  (action.kind == ActionKind::kRecvForward ? inputs_ : output_grads_)[key] = lane.front();
  lane.pop_front();
  return true;
}

void ReferenceMachine::Reduce(const Action& action) {
  Stage& stage = stages_[static_cast<size_t>(action.stage)];
  stage.reduced = Mix(stage.reduced, static_cast<Value>(action.phase));
  const std::vector<Value>& slots = stage.slots[action.phase];
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (spec_.zero_stage == 1 || static_cast<int>(slot) == action.round)
      stage.reduced = Mix(stage.reduced, slots[slot]);
  }
}

bool ReferenceMachine::Tie(int rank, const Action& action) {
  if (action.round < 0 || static_cast<size_t>(action.round) >= tie_arrivals_.size())
    return ok_ = false;
  std::vector<bool>& here = tie_arrivals_[static_cast<size_t>(action.round)];
  here[static_cast<size_t>(rank)] = true;
  if (action.peer < 0 || static_cast<size_t>(action.peer) >= here.size()) return ok_ = false;
  if (!here[static_cast<size_t>(action.peer)]) return false;
  Stage& stage = stages_[static_cast<size_t>(action.stage)];
  stage.reduced = Mix(stage.reduced, static_cast<Value>(action.round));
  return true;
}

bool ReferenceMachine::Execute(int rank, const Action& action) {
  const Key key{action.phase, action.stage, action.micro_batch};
  // A rank knows its own stages only, and the phases of the objective.
  if (action.stage < 0 || action.stage >= spec_.num_stages() || action.phase < 0 ||
      static_cast<size_t>(action.phase) >= spec_.phases.size() ||
      spec_.RankOfStage(action.stage) != rank)
    return ok_ = false;
  Stage& stage = stages_[static_cast<size_t>(action.stage)];
  switch (action.kind) {
    case ActionKind::kForward:
      Forward(action);
      break;
    case ActionKind::kBackward:
      Backward(action, true, true);
      break;
    case ActionKind::kBackwardInput:
      Backward(action, true, false);
      break;
    case ActionKind::kBackwardWeight:
      Backward(action, false, true);
      break;
    case ActionKind::kSendForward:
      lanes_[{action.peer, rank}].push_back(Take(outputs_, key));
      break;
    case ActionKind::kSendBackward:
      lanes_[{action.peer, rank}].push_back(Take(input_grads_, key));
      break;
    case ActionKind::kRecvForward:
    case ActionKind::kRecvBackward:
      return Receive(rank, action);
    case ActionKind::kSlotDone:
      stage.slots[action.phase].push_back(stage.main_grad);
      stage.main_grad = 0;
      break;
    case ActionKind::kReduce:
      Reduce(action);
      break;
    case ActionKind::kGather:
    case ActionKind::kRelease:
      ok_ &= stage.gathered != (action.kind == ActionKind::kGather);
      stage.gathered = action.kind == ActionKind::kGather;
      break;
    case ActionKind::kJoin:
      joined_ = Mix(joined_, static_cast<Value>(action.phase));
      for (const auto& [output, value] : outputs_) {
        if (std::get<1>(output) + 1 == spec_.num_stages()) joined_ = Mix(joined_, value);
      }
      break;
    case ActionKind::kTie:
      return Tie(rank, action);
  }
  return ok_;
}

}  // namespace weft
