#include "parallel/schedule/stage_rules.h"

#include <algorithm>

#include "parallel/schedule/verifier.h"

namespace weft {
namespace {

enum Flag : uint8_t {
  kForwardDone = 1,
  kInputDone = 2,
  kActivationsHere = 4,
  kGradientsHere = 8,
  kActivationsSent = 16,
  kGradientsSent = 32,
};

size_t Size(int n) { return static_cast<size_t>(n); }
std::string Number(int n) { return std::to_string(n); }

}  // namespace

StageRules::StageRules(const ProgramSpec& spec)
    : spec_(spec),
      m_(spec.micro_batches()),
      stages_(Size(spec.num_stages())),
      passes_(spec.phases.size() * stages_.size()),
      flags_(passes_.size() * Size(m_)),
      held_(Size(spec.ranks) * spec.phases.size()),
      gathered_(Size(spec.ranks)),
      joined_(spec.phases.size()) {
  FindForwardPhases();
}

size_t StageRules::PassIndex(int phase, int stage) const {
  return Size(phase) * stages_.size() + Size(stage);
}

size_t StageRules::FlagIndex(int phase, int stage, int micro_batch) const {
  return PassIndex(phase, stage) * Size(m_) + Size(micro_batch);
}

int& StageRules::Held(int rank, int backward_phase) {
  return held_[Size(rank) * spec_.phases.size() + Size(backward_phase)];
}

void StageRules::FindForwardPhases() {
  forward_of_.assign(spec_.phases.size(), -1);
  backward_of_.assign(spec_.phases.size(), -1);
  for (int b = 0; b < num_phases(); ++b) {
    if (!spec_.RunsBackward(b)) continue;
    for (int f = 0; f <= b; ++f) {
      if (spec_.RunsForward(f) && spec_.phases[Size(f)].wave == spec_.phases[Size(b)].wave)
        forward_of_[Size(b)] = f;
    }
    backward_of_[Size(forward_of_[Size(b)])] = b;
  }
}

Status StageRules::CheckFields(int rank, const Action& action) const {
  if (action.phase < 0 || action.phase >= num_phases()) {
    return InvalidArgument("the objective has phases 0 to " + Number(num_phases() - 1));
  }
  if (action.stage < 0 || action.stage > last_stage() || spec_.RankOfStage(action.stage) != rank) {
    return InvalidArgument("stage " + Number(action.stage) + " is not on this rank");
  }
  if (action.kind > ActionKind::kRecvBackward) return OkStatus();
  if (action.micro_batch < 0 || action.micro_batch >= m_)
    return InvalidArgument("this rank has micro-batches 0 to " + Number(m_ - 1));
  if (spec_.phases[Size(action.phase)].join) return InvalidArgument("its phase is a join");
  return OkStatus();
}

Status StageRules::Apply(int rank, const Action& action) {
  switch (action.kind) {
    case ActionKind::kForward:
      return Forward(rank, action);
    case ActionKind::kBackward:
      WEFT_RETURN_IF_ERROR(InputGradients(action));
      return WeightGradients(rank, action);
    case ActionKind::kBackwardInput:
      return InputGradients(action);
    case ActionKind::kBackwardWeight:
      return WeightGradients(rank, action);
    case ActionKind::kSlotDone:
      return SlotDone(action);
    case ActionKind::kReduce:
      return Reduce(action);
    case ActionKind::kGather:
      return Gather(rank, action);
    case ActionKind::kRelease:
      return Release(rank, action);
    case ActionKind::kJoin:
      return Join(action);
    default:
      return InvalidArgument("no such kind of action");
  }
}

Status StageRules::Send(const Action& send) {
  const bool forward = send.kind == ActionKind::kSendForward;
  uint8_t& flags = flags_[FlagIndex(send.phase, send.stage, send.micro_batch)];
  if (!(flags & (forward ? kForwardDone : kInputDone)))
    return InvalidArgument("it is not computed yet");
  const Flag sent = forward ? kActivationsSent : kGradientsSent;
  if (flags & sent) return InvalidArgument("a second time");
  flags |= sent;
  return OkStatus();
}

void StageRules::Receive(const Action& recv) {
  flags_[FlagIndex(recv.phase, recv.stage, recv.micro_batch)] |=
      recv.kind == ActionKind::kRecvForward ? kActivationsHere : kGradientsHere;
}

// Joins split what the last stage does: all before, then the join, then all after.
Status StageRules::CheckJoinsBefore(const Action& action) const {
  if (action.stage != last_stage()) return OkStatus();
  for (int phase = 0; phase < action.phase; ++phase) {
    if (spec_.phases[Size(phase)].join && !joined_[Size(phase)])
      return InvalidArgument("the join of phase " + Number(phase) + " has to come first");
  }
  return OkStatus();
}

Status StageRules::CheckParameters(const Action& action) const {
  if (spec_.zero_stage < 3) return OkStatus();
  const StageState& stage = stages_[Size(action.stage)];
  if (stage.gathered) return OkStatus();
  return InvalidArgument(stage.was_gathered ? "use of parameters after their release"
                                            : "use of parameters before their gather");
}

Status StageRules::CheckHasBackward(const Action& action) const {
  if (HasBackward(action.phase, action.stage)) return OkStatus();
  return InvalidArgument("there is no backward of this stage in this phase");
}

Status StageRules::Forward(int rank, const Action& action) {
  if (!spec_.RunsForward(action.phase)) return InvalidArgument("its phase runs no forward");
  uint8_t& flags = flags_[FlagIndex(action.phase, action.stage, action.micro_batch)];
  if (flags & kForwardDone) return InvalidArgument("a second time");
  if (action.stage > 0 && !(flags & kActivationsHere))
    return InvalidArgument("the activations of stage " + Number(action.stage - 1) +
                           " are not here yet");
  WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
  WEFT_RETURN_IF_ERROR(CheckParameters(action));
  flags |= kForwardDone;
  passes_[PassIndex(action.phase, action.stage)].forwards++;
  if (spec_.ranks == 1 && action.stage < last_stage())
    flags_[FlagIndex(action.phase, action.stage + 1, action.micro_batch)] |= kActivationsHere;
  const int backward = backward_of_[Size(action.phase)];
  if (backward < 0 || action.stage < spec_.first_backward_stage) return OkStatus();
  const int held = ++Held(rank, backward);
  const int bound = ActivationBound(spec_, backward, rank);
  if (held <= bound) return OkStatus();
  return InvalidArgument("keeps the activations of " + Number(held) +
                         " micro-batches; the schedule's bound is " + Number(bound));
}

Status StageRules::InputGradients(const Action& action) {
  WEFT_RETURN_IF_ERROR(CheckHasBackward(action));
  PassState& pass = passes_[PassIndex(action.phase, action.stage)];
  if (action.micro_batch < pass.backwards) return InvalidArgument("a second time");
  if (action.micro_batch > pass.backwards)
    return InvalidArgument("backward out of order: micro-batch " + Number(pass.backwards) +
                           " comes first");
  const int forward = forward_of_[Size(action.phase)];
  if (!(flags_[FlagIndex(forward, action.stage, action.micro_batch)] & kForwardDone))
    return InvalidArgument("its forward has not run");
  uint8_t& flags = flags_[FlagIndex(action.phase, action.stage, action.micro_batch)];
  if (action.stage < last_stage() && !(flags & kGradientsHere))
    return InvalidArgument("the gradients of stage " + Number(action.stage + 1) +
                           " are not here yet");
  WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
  WEFT_RETURN_IF_ERROR(CheckParameters(action));
  flags |= kInputDone;
  pass.backwards++;
  if (spec_.ranks == 1 && action.stage > spec_.first_backward_stage)
    flags_[FlagIndex(action.phase, action.stage - 1, action.micro_batch)] |= kGradientsHere;
  return OkStatus();
}

Status StageRules::WeightGradients(int rank, const Action& action) {
  WEFT_RETURN_IF_ERROR(CheckHasBackward(action));
  PassState& pass = passes_[PassIndex(action.phase, action.stage)];
  if (action.micro_batch < pass.weights) return InvalidArgument("a second time");
  if (action.micro_batch > pass.weights)
    return InvalidArgument("weight gradients out of order: micro-batch " + Number(pass.weights) +
                           " comes first");
  if (action.micro_batch >= pass.backwards)
    return InvalidArgument("its input gradients have not run");
  if (action.micro_batch / spec_.micro_batches_a_slot != pass.slots_done)
    return InvalidArgument("slot " + Number(pass.slots_done) + " of the stage is not done yet");
  int& open = stages_[Size(action.stage)].open_phase;
  if (open >= 0 && open != action.phase &&
      passes_[PassIndex(open, action.stage)].slots_done < spec_.own_slots())
    return InvalidArgument("slots of phase " + Number(open) + " are not done yet");
  open = action.phase;
  pass.weights++;
  --Held(rank, action.phase);
  return OkStatus();
}

Status StageRules::SlotDone(const Action& action) {
  WEFT_RETURN_IF_ERROR(CheckHasBackward(action));
  PassState& pass = passes_[PassIndex(action.phase, action.stage)];
  if (action.round != pass.slots_done || action.round >= spec_.own_slots())
    return InvalidArgument("out of order: " + Number(pass.slots_done) + " of " +
                           Number(spec_.own_slots()) + " slots are done");
  const int needed = (action.round + 1) * spec_.micro_batches_a_slot;
  if (pass.weights < needed)
    return InvalidArgument("the weight gradients of micro-batch " + Number(pass.weights) +
                           " come first");
  if (spec_.zero_stage > 1 && pass.reduced < action.round)
    return InvalidArgument("the reduce of round " + Number(pass.reduced) + " comes first");
  pass.slots_done++;
  return OkStatus();
}

Status StageRules::Reduce(const Action& action) {
  WEFT_RETURN_IF_ERROR(CheckHasBackward(action));
  PassState& pass = passes_[PassIndex(action.phase, action.stage)];
  if (action.round != pass.reduced || action.round >= rounds())
    return InvalidArgument("out of order: " + Number(pass.reduced) + " of " + Number(rounds()) +
                           " rounds are reduced");
  const int own = spec_.own_slots();
  const int needed = spec_.zero_stage == 1 ? own : std::min(action.round + 1, own);
  if (pass.slots_done < needed)
    return InvalidArgument("slot " + Number(pass.slots_done) + " is not done yet");
  pass.reduced++;
  return OkStatus();
}

Status StageRules::Gather(int rank, const Action& action) {
  if (spec_.zero_stage < 3) return InvalidArgument("only ZeRO 3 shards parameters");
  StageState& stage = stages_[Size(action.stage)];
  if (stage.gathered) return InvalidArgument("the stage is gathered already");
  if (stage.was_gathered && !spec_.GathersByMicroBatch())
    return InvalidArgument("GATHER_STEP gathers once a step");
  stage.gathered = true;
  stage.was_gathered = true;
  if (++gathered_[Size(rank)] > 2 && spec_.GathersByMicroBatch())
    return InvalidArgument("more than one stage ahead is gathered");
  return OkStatus();
}

Status StageRules::Release(int rank, const Action& action) {
  if (spec_.zero_stage < 3) return InvalidArgument("only ZeRO 3 shards parameters");
  StageState& stage = stages_[Size(action.stage)];
  if (!stage.gathered) return InvalidArgument("the stage is not gathered");
  stage.gathered = false;
  --gathered_[Size(rank)];
  return OkStatus();
}

Status StageRules::Join(const Action& action) {
  if (!spec_.phases[Size(action.phase)].join) return InvalidArgument("its phase is no join");
  if (action.stage != last_stage()) return InvalidArgument("joins run on the last stage");
  if (joined_[Size(action.phase)]) return InvalidArgument("a second time");
  WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
  for (int phase = 0; phase < action.phase; ++phase) {
    const PassState& pass = passes_[PassIndex(phase, action.stage)];
    const bool forwards = !spec_.RunsForward(phase) || pass.forwards == m_;
    const bool backwards = !spec_.RunsBackward(phase) || pass.weights == m_;
    if (!forwards || !backwards)
      return InvalidArgument("phase " + Number(phase) + " is not complete on the last stage");
  }
  joined_[Size(action.phase)] = true;
  return OkStatus();
}

Status StageRules::CheckReduced(int stage) const {
  for (int phase = 0; phase < num_phases(); ++phase) {
    if (!HasBackward(phase, stage)) continue;
    if (passes_[PassIndex(phase, stage)].reduced < rounds())
      return InvalidArgument("the last reduce of stage " + Number(stage) + " comes first");
  }
  return OkStatus();
}

Status StageRules::CheckComplete(int stage) const {
  for (int phase = 0; phase < num_phases(); ++phase)
    WEFT_RETURN_IF_ERROR(CheckPassComplete(phase, stage));
  if (stages_[Size(stage)].gathered) return InvalidArgument("has no release after its last gather");
  return OkStatus();
}

Status StageRules::CheckPassComplete(int phase, int stage) const {
  const PassState& pass = passes_[PassIndex(phase, stage)];
  const std::string of_phase = " in phase " + Number(phase);
  if (spec_.phases[Size(phase)].join && stage == last_stage() && !joined_[Size(phase)])
    return InvalidArgument("lacks the join of phase " + Number(phase));
  if (spec_.RunsForward(phase) && pass.forwards < m_) {
    int missing = 0;
    while (flags_[FlagIndex(phase, stage, missing)] & kForwardDone) ++missing;
    return InvalidArgument("lacks the forward of micro-batch " + Number(missing) + of_phase);
  }
  if (!HasBackward(phase, stage)) return OkStatus();
  if (pass.backwards < m_)
    return InvalidArgument("lacks the backward of micro-batch " + Number(pass.backwards) +
                           of_phase);
  if (pass.weights < m_)
    return InvalidArgument("lacks the weight gradients of micro-batch " + Number(pass.weights) +
                           of_phase);
  if (pass.slots_done < spec_.own_slots())
    return InvalidArgument("does not mark slot " + Number(pass.slots_done) + " done" + of_phase);
  if (pass.reduced < rounds())
    return InvalidArgument("lacks the reduce of round " + Number(pass.reduced) + of_phase);
  return OkStatus();
}

}  // namespace weft
