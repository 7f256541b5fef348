#include "parallel/schedule/action_text.h"

#include <cstdio>

namespace weft {

const char* ActionKindName(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return "forward";
    case ActionKind::kBackward:
      return "backward";
    case ActionKind::kBackwardInput:
      return "input gradients";
    case ActionKind::kBackwardWeight:
      return "weight gradients";
    case ActionKind::kSendForward:
      return "send activations";
    case ActionKind::kRecvForward:
      return "receive activations";
    case ActionKind::kSendBackward:
      return "send gradients";
    case ActionKind::kRecvBackward:
      return "receive gradients";
    case ActionKind::kSlotDone:
      return "slot done";
    case ActionKind::kReduce:
      return "reduce";
    case ActionKind::kGather:
      return "gather";
    case ActionKind::kRelease:
      return "release";
    case ActionKind::kJoin:
      return "join";
    case ActionKind::kTie:
      return "tie";
  }
  return "unknown action";
}

std::string ActionText(const Action& action) {
  const std::string name = ActionKindName(action.kind);
  const std::string stage = "stage " + std::to_string(action.stage);
  const std::string micro_batch = ", micro-batch " + std::to_string(action.micro_batch);
  const std::string phase = ", phase " + std::to_string(action.phase);
  const std::string peer = "rank " + std::to_string(action.peer);
  const std::string round = std::to_string(action.round);
  switch (action.kind) {
    case ActionKind::kSendForward:
    case ActionKind::kSendBackward:
      return name + " to " + peer + " from " + stage + micro_batch + phase;
    case ActionKind::kRecvForward:
    case ActionKind::kRecvBackward:
      return name + " from " + peer + " for " + stage + micro_batch + phase;
    case ActionKind::kSlotDone:
      return name + " of " + stage + ", slot " + round + phase;
    case ActionKind::kReduce:
      return name + " of " + stage + ", round " + round + phase;
    case ActionKind::kGather:
    case ActionKind::kRelease:
      return name + " of " + stage;
    case ActionKind::kJoin:
      return name + " of phase " + std::to_string(action.phase);
    case ActionKind::kTie:
      return name + " " + round + " of " + stage + " with " + peer;
    default:
      return name + " of " + stage + micro_batch + phase;
  }
}

std::string ProgramText(const RankProgram& program) {
  std::string text;
  for (size_t i = 0; i < program.size(); ++i) {
    char number[24];
    std::snprintf(number, sizeof(number), "%5zu ", i);
    text += number + ActionText(program[i]) + "\n";
  }
  return text;
}

}  // namespace weft
