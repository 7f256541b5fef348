#include "parallel/schedule/verifier.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "parallel/schedule/action_text.h"

namespace weft {
namespace {

// What has happened to a micro-batch at a stage in a phase.
enum Flag : uint8_t {
  kForwardDone = 1,
  kInputDone = 2,
  kWeightDone = 4,
  kActivationsHere = 8,
  kGradientsHere = 16,
  kActivationsSent = 32,
  kGradientsSent = 64,
};

std::string Number(int64_t n) { return std::to_string(n); }

// Runs the lists of all pipeline ranks against each other; a rank goes on until it has to wait.
class Execution {
 public:
  Execution(const ProgramSpec& spec, std::span<const RankProgram> programs)
      : spec_(spec),
        programs_(programs),
        m_(spec.micro_batches()),
        ranks_(static_cast<size_t>(spec.ranks)),
        lanes_(ranks_.size() * ranks_.size()),
        stages_(static_cast<size_t>(spec.num_stages())),
        passes_(spec.phases.size() * stages_.size()),
        flags_(passes_.size() * static_cast<size_t>(m_)),
        held_(ranks_.size() * spec.phases.size()),
        joined_(spec.phases.size()),
        tie_arrivals_(spec.ties.size()) {
    FindForwardPhases();
  }

  Status Run() {
    std::vector<int> ready;
    for (int rank = spec_.ranks - 1; rank >= 0; --rank) ready.push_back(rank);
    while (!ready.empty()) {
      const int rank = ready.back();
      ready.pop_back();
      RankState& state = ranks_[Size(rank)];
      state.waits_for = -1;
      for (; state.next < programs_[Size(rank)].size(); ++state.next) {
        wakes_ = -1;
        const Action& action = programs_[Size(rank)][state.next];
        const Status status = Execute(rank, action);
        if (!status.ok()) return status.WithContext(Where(rank));
        if (wakes_ >= 0 && ranks_[Size(wakes_)].waits_for == rank) {
          ranks_[Size(wakes_)].waits_for = -1;
          ready.push_back(wakes_);
        }
        if (state.waits_for >= 0) break;
      }
    }
    WEFT_RETURN_IF_ERROR(CheckNobodyWaits());
    return CheckComplete();
  }

 private:
  struct RankState {
    size_t next = 0;
    int waits_for = -1;
    int gathered = 0;
  };
  struct Lane {
    std::vector<Action> sends;
    size_t received = 0;
  };
  struct StageState {
    bool gathered = false;
    bool was_gathered = false;
    int open_phase = -1;
  };
  // A stage in a phase.
  struct PassState {
    int forwards = 0;
    int backwards = 0;
    int weights = 0;
    int slots_done = 0;
    int reduced = 0;
  };

  static size_t Size(int n) { return static_cast<size_t>(n); }
  int num_phases() const { return static_cast<int>(spec_.phases.size()); }
  int last_stage() const { return spec_.num_stages() - 1; }
  int rounds() const { return spec_.zero_stage == 1 ? 1 : spec_.max_slots(); }
  PassState& Pass(int phase, int stage) {
    return passes_[Size(phase) * stages_.size() + Size(stage)];
  }
  uint8_t& Flags(int phase, int stage, int micro_batch) {
    const size_t pass = Size(phase) * stages_.size() + Size(stage);
    return flags_[pass * Size(m_) + Size(micro_batch)];
  }
  bool HasBackward(int phase, int stage) const {
    return spec_.RunsBackward(phase) && stage >= spec_.first_backward_stage;
  }
  std::string Where(int rank) const {
    const size_t at = ranks_[Size(rank)].next;
    return "pipeline rank " + Number(rank) + ", action " + Number(static_cast<int64_t>(at)) + " (" +
           ActionText(programs_[Size(rank)][at]) + ")";
  }

  // forward_of_[b]: the phase whose forwards the backwards of b belong to; backward_of_ is the inverse, -1: none.
  void FindForwardPhases() {
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

  Status Execute(int rank, const Action& action) {
    WEFT_RETURN_IF_ERROR(CheckFields(rank, action));
    switch (action.kind) {
      case ActionKind::kForward:
        return Forward(rank, action);
      case ActionKind::kBackward:
        WEFT_RETURN_IF_ERROR(InputGradients(rank, action));
        return WeightGradients(rank, action);
      case ActionKind::kBackwardInput:
        return InputGradients(rank, action);
      case ActionKind::kBackwardWeight:
        return WeightGradients(rank, action);
      case ActionKind::kSendForward:
      case ActionKind::kSendBackward:
        return Send(rank, action);
      case ActionKind::kRecvForward:
      case ActionKind::kRecvBackward:
        return Receive(rank, action);
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
      case ActionKind::kTie:
        return Tie(rank, action);
    }
    return InvalidArgument("no such kind of action");
  }

  Status CheckFields(int rank, const Action& action) const {
    if (action.phase < 0 || action.phase >= num_phases()) {
      return InvalidArgument("the objective has phases 0 to " + Number(num_phases() - 1));
    }
    if (action.stage < 0 || action.stage > last_stage() ||
        spec_.RankOfStage(action.stage) != rank) {
      return InvalidArgument("stage " + Number(action.stage) + " is not on this rank");
    }
    if (action.kind > ActionKind::kRecvBackward) return OkStatus();
    if (action.micro_batch < 0 || action.micro_batch >= m_)
      return InvalidArgument("this rank has micro-batches 0 to " + Number(m_ - 1));
    if (spec_.phases[Size(action.phase)].join) return InvalidArgument("its phase is a join");
    return OkStatus();
  }

  // Joins split what the last stage does: all before, then the join, then all after.
  Status CheckJoinsBefore(const Action& action) const {
    if (action.stage != last_stage()) return OkStatus();
    for (int phase = 0; phase < action.phase; ++phase) {
      if (spec_.phases[Size(phase)].join && !joined_[Size(phase)])
        return InvalidArgument("the join of phase " + Number(phase) + " has to come first");
    }
    return OkStatus();
  }

  Status CheckParameters(const Action& action) const {
    if (spec_.zero_stage < 3) return OkStatus();
    const StageState& stage = stages_[Size(action.stage)];
    if (stage.gathered) return OkStatus();
    return InvalidArgument(stage.was_gathered ? "use of parameters after their release"
                                              : "use of parameters before their gather");
  }

  Status Forward(int rank, const Action& action) {
    if (!spec_.RunsForward(action.phase)) return InvalidArgument("its phase runs no forward");
    uint8_t& flags = Flags(action.phase, action.stage, action.micro_batch);
    if (flags & kForwardDone) return InvalidArgument("a second time");
    if (action.stage > 0 && !(flags & kActivationsHere))
      return InvalidArgument("the activations of stage " + Number(action.stage - 1) +
                             " are not here yet");
    WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
    WEFT_RETURN_IF_ERROR(CheckParameters(action));
    flags |= kForwardDone;
    Pass(action.phase, action.stage).forwards++;
    if (spec_.ranks == 1 && action.stage < last_stage())
      Flags(action.phase, action.stage + 1, action.micro_batch) |= kActivationsHere;
    const int backward = backward_of_[Size(action.phase)];
    if (backward < 0 || action.stage < spec_.first_backward_stage) return OkStatus();
    const int held = ++held_[Size(rank) * spec_.phases.size() + Size(backward)];
    const int bound = ActivationBound(spec_, backward, rank);
    if (held <= bound) return OkStatus();
    return InvalidArgument("keeps the activations of " + Number(held) +
                           " micro-batches; the schedule's bound is " + Number(bound));
  }

  Status InputGradients(int rank, const Action& action) {
    (void)rank;
    if (!HasBackward(action.phase, action.stage))
      return InvalidArgument("there is no backward of this stage in this phase");
    PassState& pass = Pass(action.phase, action.stage);
    if (action.micro_batch < pass.backwards) return InvalidArgument("a second time");
    if (action.micro_batch > pass.backwards)
      return InvalidArgument("backward out of order: micro-batch " + Number(pass.backwards) +
                             " comes first");
    const int forward = forward_of_[Size(action.phase)];
    if (!(Flags(forward, action.stage, action.micro_batch) & kForwardDone))
      return InvalidArgument("its forward has not run");
    uint8_t& flags = Flags(action.phase, action.stage, action.micro_batch);
    if (action.stage < last_stage() && !(flags & kGradientsHere))
      return InvalidArgument("the gradients of stage " + Number(action.stage + 1) +
                             " are not here yet");
    WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
    WEFT_RETURN_IF_ERROR(CheckParameters(action));
    flags |= kInputDone;
    pass.backwards++;
    if (spec_.ranks == 1 && action.stage > spec_.first_backward_stage)
      Flags(action.phase, action.stage - 1, action.micro_batch) |= kGradientsHere;
    return OkStatus();
  }

  Status WeightGradients(int rank, const Action& action) {
    if (!HasBackward(action.phase, action.stage))
      return InvalidArgument("there is no backward of this stage in this phase");
    PassState& pass = Pass(action.phase, action.stage);
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
        Pass(open, action.stage).slots_done < spec_.own_slots())
      return InvalidArgument("slots of phase " + Number(open) + " are not done yet");
    open = action.phase;
    pass.weights++;
    Flags(action.phase, action.stage, action.micro_batch) |= kWeightDone;
    --held_[Size(rank) * spec_.phases.size() + Size(action.phase)];
    return OkStatus();
  }

  Status Send(int rank, const Action& action) {
    const bool forward = action.kind == ActionKind::kSendForward;
    const int to = action.stage + (forward ? 1 : -1);
    if (to < 0 || to > last_stage() || spec_.RankOfStage(to) == rank ||
        (!forward && to < spec_.first_backward_stage))
      return InvalidArgument("nobody needs it");
    if (action.peer != spec_.RankOfStage(to))
      return InvalidArgument("stage " + Number(to) + " is on rank " +
                             Number(spec_.RankOfStage(to)));
    uint8_t& flags = Flags(action.phase, action.stage, action.micro_batch);
    if (!(flags & (forward ? kForwardDone : kInputDone)))
      return InvalidArgument("it is not computed yet");
    const Flag sent = forward ? kActivationsSent : kGradientsSent;
    if (flags & sent) return InvalidArgument("a second time");
    flags |= sent;
    lanes_[Size(action.peer) * ranks_.size() + Size(rank)].sends.push_back(action);
    wakes_ = action.peer;
    return OkStatus();
  }

  Status Receive(int rank, const Action& action) {
    const bool forward = action.kind == ActionKind::kRecvForward;
    const int from = action.stage + (forward ? -1 : 1);
    if (from < 0 || from > last_stage() || spec_.RankOfStage(from) == rank)
      return InvalidArgument("nobody sends it");
    if (action.peer != spec_.RankOfStage(from))
      return InvalidArgument("stage " + Number(from) + " is on rank " +
                             Number(spec_.RankOfStage(from)));
    Lane& lane = lanes_[Size(rank) * ranks_.size() + Size(action.peer)];
    if (lane.received == lane.sends.size()) {
      ranks_[Size(rank)].waits_for = action.peer;
      return OkStatus();
    }
    const Action& send = lane.sends[lane.received++];
    const bool same_kind = (send.kind == ActionKind::kSendForward) == forward;
    if (!same_kind || send.stage != from || send.phase != action.phase ||
        send.micro_batch != action.micro_batch)
      return InvalidArgument("the next message of that rank is another: " + ActionText(send));
    Flags(action.phase, action.stage, action.micro_batch) |=
        forward ? kActivationsHere : kGradientsHere;
    return OkStatus();
  }

  Status SlotDone(const Action& action) {
    if (!HasBackward(action.phase, action.stage))
      return InvalidArgument("there is no backward of this stage in this phase");
    PassState& pass = Pass(action.phase, action.stage);
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

  Status Reduce(const Action& action) {
    if (!HasBackward(action.phase, action.stage))
      return InvalidArgument("there is no backward of this stage in this phase");
    PassState& pass = Pass(action.phase, action.stage);
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

  Status Gather(int rank, const Action& action) {
    if (spec_.zero_stage < 3) return InvalidArgument("only ZeRO 3 shards parameters");
    StageState& stage = stages_[Size(action.stage)];
    if (stage.gathered) return InvalidArgument("the stage is gathered already");
    if (stage.was_gathered && !spec_.GathersByMicroBatch())
      return InvalidArgument("GATHER_STEP gathers once a step");
    stage.gathered = true;
    stage.was_gathered = true;
    if (++ranks_[Size(rank)].gathered > 2 && spec_.GathersByMicroBatch())
      return InvalidArgument("more than one stage ahead is gathered");
    return OkStatus();
  }

  Status Release(int rank, const Action& action) {
    if (spec_.zero_stage < 3) return InvalidArgument("only ZeRO 3 shards parameters");
    StageState& stage = stages_[Size(action.stage)];
    if (!stage.gathered) return InvalidArgument("the stage is not gathered");
    stage.gathered = false;
    --ranks_[Size(rank)].gathered;
    return OkStatus();
  }

  Status Join(const Action& action) {
    if (!spec_.phases[Size(action.phase)].join) return InvalidArgument("its phase is no join");
    if (action.stage != last_stage()) return InvalidArgument("joins run on the last stage");
    if (joined_[Size(action.phase)]) return InvalidArgument("a second time");
    WEFT_RETURN_IF_ERROR(CheckJoinsBefore(action));
    for (int phase = 0; phase < action.phase; ++phase) {
      const PassState& pass = Pass(phase, action.stage);
      const bool forwards = !spec_.RunsForward(phase) || pass.forwards == m_;
      const bool backwards = !spec_.RunsBackward(phase) || pass.weights == m_;
      if (!forwards || !backwards)
        return InvalidArgument("phase " + Number(phase) + " is not complete on the last stage");
    }
    joined_[Size(action.phase)] = true;
    return OkStatus();
  }

  Status Tie(int rank, const Action& action) {
    if (action.round < 0 || Size(action.round) >= spec_.ties.size() || !spec_.RunsAnyBackward())
      return InvalidArgument("there is no such tie");
    const auto [owner, replica] = spec_.ties[Size(action.round)];
    const bool owns = spec_.RankOfStage(owner) == rank;
    const int other = owns ? replica : owner;
    if (action.stage != (owns ? owner : replica) || action.peer != spec_.RankOfStage(other))
      return InvalidArgument("the tie is of stage " + Number(owner) + " and stage " +
                             Number(replica));
    for (int phase = 0; phase < num_phases(); ++phase) {
      for (const int stage : {owner, replica}) {
        if (spec_.RankOfStage(stage) != rank || !HasBackward(phase, stage)) continue;
        if (Pass(phase, stage).reduced < rounds())
          return InvalidArgument("the last reduce of stage " + Number(stage) + " comes first");
      }
    }
    // Bit 0: the owner's rank is here, bit 1: the other, bit 2: the owner's rank has gone on, bit 3: the other.
    uint8_t& arrivals = tie_arrivals_[Size(action.round)];
    const int side = owns ? 0 : 1;
    if (arrivals & (4 << side)) return InvalidArgument("a second time");
    arrivals |= static_cast<uint8_t>(1 << side);
    if (action.peer != rank && (arrivals & 3) != 3) {
      ranks_[Size(rank)].waits_for = action.peer;
      return OkStatus();
    }
    arrivals |= static_cast<uint8_t>(4 << side);
    wakes_ = action.peer;
    return OkStatus();
  }

  // One sentence on a rank that waits, and on whom it waits for.
  Status CheckNobodyWaits() const {
    int rank = 0;
    while (rank < spec_.ranks && ranks_[Size(rank)].waits_for < 0) ++rank;
    if (rank == spec_.ranks) return OkStatus();
    // Go to where the chain of waits ends or closes.
    std::vector<bool> seen(ranks_.size());
    while (!seen[Size(rank)] && ranks_[Size(ranks_[Size(rank)].waits_for)].waits_for >= 0) {
      seen[Size(rank)] = true;
      rank = ranks_[Size(rank)].waits_for;
    }
    std::string text = Where(rank) + " waits for ever: ";
    int other = ranks_[Size(rank)].waits_for;
    if (ranks_[Size(other)].waits_for < 0)
      return InvalidArgument(text + "rank " + Number(other) + " has come to its end without it");
    text += "deadlock, as ";
    for (bool first = true; first || other != rank; first = false) {
      text += (first ? "" : ", and ") + Where(other) + " waits for rank " +
              Number(ranks_[Size(other)].waits_for);
      other = ranks_[Size(other)].waits_for;
      if (first && other == rank) break;
    }
    return InvalidArgument(text);
  }

  Status CheckComplete() {
    for (int rank = 0; rank < spec_.ranks; ++rank) {
      for (int from = 0; from < spec_.ranks; ++from) {
        const Lane& lane = lanes_[Size(rank) * ranks_.size() + Size(from)];
        if (lane.received == lane.sends.size()) continue;
        return InvalidArgument("pipeline rank " + Number(rank) + " never receives what rank " +
                               Number(from) + " sends: " + ActionText(lane.sends[lane.received]));
      }
    }
    for (int stage = 0; stage <= last_stage(); ++stage) {
      for (int phase = 0; phase < num_phases(); ++phase)
        WEFT_RETURN_IF_ERROR(CheckPassComplete(phase, stage));
      if (stages_[Size(stage)].gathered)
        return Incomplete(stage, "has no release after its last gather");
    }
    for (size_t i = 0; i < spec_.ties.size() && spec_.RunsAnyBackward(); ++i) {
      if (!(tie_arrivals_[i] & 4))
        return Incomplete(spec_.ties[i].first, "lacks tie " + Number(static_cast<int64_t>(i)));
    }
    return OkStatus();
  }

  Status CheckPassComplete(int phase, int stage) {
    const PassState& pass = Pass(phase, stage);
    const std::string of_phase = " in phase " + Number(phase);
    if (spec_.phases[Size(phase)].join && stage == last_stage() && !joined_[Size(phase)])
      return Incomplete(stage, "lacks the join of phase " + Number(phase));
    if (spec_.RunsForward(phase) && pass.forwards < m_) {
      int missing = 0;
      while (Flags(phase, stage, missing) & kForwardDone) ++missing;
      return Incomplete(stage, "lacks the forward of micro-batch " + Number(missing) + of_phase);
    }
    if (!HasBackward(phase, stage)) return OkStatus();
    if (pass.backwards < m_)
      return Incomplete(stage,
                        "lacks the backward of micro-batch " + Number(pass.backwards) + of_phase);
    if (pass.weights < m_)
      return Incomplete(
          stage, "lacks the weight gradients of micro-batch " + Number(pass.weights) + of_phase);
    if (pass.slots_done < spec_.own_slots())
      return Incomplete(stage,
                        "does not mark slot " + Number(pass.slots_done) + " done" + of_phase);
    if (pass.reduced < rounds())
      return Incomplete(stage, "lacks the reduce of round " + Number(pass.reduced) + of_phase);
    return OkStatus();
  }

  Status Incomplete(int stage, const std::string& what) const {
    return InvalidArgument("pipeline rank " + Number(spec_.RankOfStage(stage)) + ": stage " +
                           Number(stage) + " " + what);
  }

  const ProgramSpec& spec_;
  std::span<const RankProgram> programs_;
  int m_;
  std::vector<RankState> ranks_;
  // By receiver, sender.
  std::vector<Lane> lanes_;
  std::vector<StageState> stages_;
  std::vector<PassState> passes_;
  std::vector<uint8_t> flags_;
  // By rank, backward phase.
  std::vector<int> held_;
  std::vector<bool> joined_;
  std::vector<uint8_t> tie_arrivals_;
  std::vector<int> forward_of_;
  std::vector<int> backward_of_;
  // The rank that the last action may have freed; -1: none.
  int wakes_ = -1;
};

}  // namespace

int ActivationBound(const ProgramSpec& spec, int phase, int rank) {
  const int m = spec.micro_batches();
  const int p = spec.ranks;
  if (!spec.RunsForward(phase)) return spec.chunks * m;
  switch (spec.schedule) {
    case ONE_F_ONE_B:
      return std::min(m, p - rank);
    case INTERLEAVED_1F1B:
      if (spec.chunks == 1) return std::min(m, p - rank);
      return std::min(spec.chunks * m, 2 * (p - rank - 1) + (spec.chunks - 1) * p + 1);
    case ZB_H1:
      return std::min(m, p);
    case GPIPE:
      break;
  }
  return spec.chunks * m;
}

Status VerifyProgram(const ProgramSpec& spec, std::span<const RankProgram> programs) {
  WEFT_RETURN_IF_ERROR(CheckProgramSpec(spec));
  if (programs.size() != static_cast<size_t>(spec.ranks))
    return InvalidArgument("there are lists of " + std::to_string(programs.size()) +
                           " pipeline ranks, but layout.pp: " + std::to_string(spec.ranks));
  return Execution(spec, programs).Run();
}

}  // namespace weft
