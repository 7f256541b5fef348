#include "parallel/schedule/verifier.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "parallel/schedule/action_text.h"
#include "parallel/schedule/stage_rules.h"

namespace weft {
namespace {

size_t Size(int n) { return static_cast<size_t>(n); }
std::string Number(int n) { return std::to_string(n); }

// Runs the lists of all pipeline ranks against each other; a rank goes on until it has to wait.
class Execution {
 public:
  Execution(const ProgramSpec& spec, std::span<const RankProgram> programs)
      : spec_(spec),
        programs_(programs),
        rules_(spec),
        ranks_(Size(spec.ranks)),
        lanes_(ranks_.size() * ranks_.size()),
        ties_(spec.ties.size()) {}

  Status Run() {
    for (int rank = spec_.ranks - 1; rank >= 0; --rank) ready_.push_back(rank);
    while (!ready_.empty()) {
      const int rank = ready_.back();
      ready_.pop_back();
      RankState& state = ranks_[Size(rank)];
      for (state.waits_for = -1; state.next < programs_[Size(rank)].size(); ++state.next) {
        const Status status = Execute(rank, programs_[Size(rank)][state.next]);
        if (!status.ok()) return status.WithContext(Where(rank));
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
  };
  // Messages from one rank to another.
  struct Lane {
    std::vector<Action> sends;
    size_t received = 0;
  };
  // Of the owner's rank and the other: it has come to the tie, it has gone on.
  struct TieState {
    bool here[2] = {false, false};
    bool done[2] = {false, false};
  };

  Lane& LaneTo(int rank, int from) { return lanes_[Size(rank) * ranks_.size() + Size(from)]; }

  std::string Where(int rank) const {
    const size_t at = ranks_[Size(rank)].next;
    return "pipeline rank " + Number(rank) + ", action " + std::to_string(at) + " (" +
           ActionText(programs_[Size(rank)][at]) + ")";
  }

  // `rank` has done something that `other` may wait for.
  void Wake(int rank, int other) {
    if (ranks_[Size(other)].waits_for != rank) return;
    ranks_[Size(other)].waits_for = -1;
    ready_.push_back(other);
  }

  Status Execute(int rank, const Action& action) {
    WEFT_RETURN_IF_ERROR(rules_.CheckFields(rank, action));
    switch (action.kind) {
      case ActionKind::kSendForward:
      case ActionKind::kSendBackward:
        return Send(rank, action);
      case ActionKind::kRecvForward:
      case ActionKind::kRecvBackward:
        return Receive(rank, action);
      case ActionKind::kTie:
        return Tie(rank, action);
      default:
        return rules_.Apply(rank, action);
    }
  }

  // The stage at the other end of a message exists and is on that rank.
  Status CheckPeer(int rank, const Action& action, int stage) const {
    const int first = action.kind == ActionKind::kSendBackward ? spec_.first_backward_stage : 0;
    if (stage < first || stage >= spec_.num_stages() || spec_.RankOfStage(stage) == rank)
      return InvalidArgument("there is no message between this stage and that one");
    if (action.peer == spec_.RankOfStage(stage)) return OkStatus();
    return InvalidArgument("stage " + Number(stage) + " is on rank " +
                           Number(spec_.RankOfStage(stage)));
  }

  Status Send(int rank, const Action& action) {
    const int to = action.stage + (action.kind == ActionKind::kSendForward ? 1 : -1);
    WEFT_RETURN_IF_ERROR(CheckPeer(rank, action, to));
    WEFT_RETURN_IF_ERROR(rules_.Send(action));
    LaneTo(action.peer, rank).sends.push_back(action);
    Wake(rank, action.peer);
    return OkStatus();
  }

  Status Receive(int rank, const Action& action) {
    const bool forward = action.kind == ActionKind::kRecvForward;
    const int from = action.stage + (forward ? -1 : 1);
    WEFT_RETURN_IF_ERROR(CheckPeer(rank, action, from));
    Lane& lane = LaneTo(rank, action.peer);
    if (lane.received == lane.sends.size()) {
      ranks_[Size(rank)].waits_for = action.peer;
      return OkStatus();
    }
    const Action& send = lane.sends[lane.received++];
    const bool same_kind = (send.kind == ActionKind::kSendForward) == forward;
    if (!same_kind || send.stage != from || send.phase != action.phase ||
        send.micro_batch != action.micro_batch)
      return InvalidArgument("the next message of that rank is another: " + ActionText(send));
    rules_.Receive(action);
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
    WEFT_RETURN_IF_ERROR(rules_.CheckReduced(action.stage));
    if (action.peer == rank) WEFT_RETURN_IF_ERROR(rules_.CheckReduced(other));
    TieState& tie = ties_[Size(action.round)];
    const int side = owns ? 0 : 1;
    if (tie.done[side]) return InvalidArgument("a second time");
    tie.here[side] = true;
    if (action.peer != rank && !tie.here[1 - side]) {
      ranks_[Size(rank)].waits_for = action.peer;
      return OkStatus();
    }
    tie.done[side] = true;
    Wake(rank, action.peer);
    return OkStatus();
  }

  // The message that a waiting rank wants is nowhere in the list of its peer.
  bool NeverSent(int rank) const {
    const Action& recv = programs_[Size(rank)][ranks_[Size(rank)].next];
    if (recv.kind == ActionKind::kTie) return false;
    const bool forward = recv.kind == ActionKind::kRecvForward;
    const RankProgram& list = programs_[Size(recv.peer)];
    return std::none_of(list.begin(), list.end(), [&](const Action& send) {
      return send.kind == (forward ? ActionKind::kSendForward : ActionKind::kSendBackward) &&
             send.stage == recv.stage + (forward ? -1 : 1) && send.phase == recv.phase &&
             send.micro_batch == recv.micro_batch;
    });
  }

  // One sentence on a rank that waits, and on whom it waits for.
  Status CheckNobodyWaits() const {
    int rank = 0;
    while (rank < spec_.ranks && ranks_[Size(rank)].waits_for < 0) ++rank;
    if (rank == spec_.ranks) return OkStatus();
    for (int r = rank; r < spec_.ranks; ++r) {
      const int from = ranks_[Size(r)].waits_for;
      if (from >= 0 && NeverSent(r))
        return InvalidArgument(Where(r) + ": rank " + Number(from) + " never sends it");
    }
    // Along the chain of waits to where it ends or closes.
    std::vector<bool> seen(ranks_.size());
    int other = ranks_[Size(rank)].waits_for;
    while (!seen[Size(rank)] && ranks_[Size(other)].waits_for >= 0) {
      seen[Size(rank)] = true;
      rank = other;
      other = ranks_[Size(rank)].waits_for;
    }
    std::string text = Where(rank) + ": waits for ever, as ";
    if (ranks_[Size(other)].waits_for < 0)
      return InvalidArgument(text + "rank " + Number(other) + " comes to its end without it");
    for (; other != rank; other = ranks_[Size(other)].waits_for)
      text += Where(other) + " waits for rank " + Number(ranks_[Size(other)].waits_for) + ", and ";
    text.resize(text.size() - std::string(", and ").size());
    return InvalidArgument(text);
  }

  Status CheckComplete() {
    for (int rank = 0; rank < spec_.ranks; ++rank) {
      for (int from = 0; from < spec_.ranks; ++from) {
        const Lane& lane = LaneTo(rank, from);
        if (lane.received == lane.sends.size()) continue;
        return InvalidArgument("pipeline rank " + Number(rank) + ": never receives what rank " +
                               Number(from) + " sends: " + ActionText(lane.sends[lane.received]));
      }
    }
    for (int stage = 0; stage < spec_.num_stages(); ++stage) {
      WEFT_RETURN_IF_ERROR(rules_.CheckComplete(stage).WithContext(
          "pipeline rank " + Number(spec_.RankOfStage(stage)) + ", stage " + Number(stage)));
    }
    for (size_t i = 0; i < ties_.size() && spec_.RunsAnyBackward(); ++i) {
      if (ties_[i].done[0]) continue;
      return InvalidArgument("pipeline rank " + Number(spec_.RankOfStage(spec_.ties[i].first)) +
                             ": lacks tie " + std::to_string(i));
    }
    return OkStatus();
  }

  const ProgramSpec& spec_;
  std::span<const RankProgram> programs_;
  StageRules rules_;
  std::vector<RankState> ranks_;
  // By receiver, sender.
  std::vector<Lane> lanes_;
  std::vector<TieState> ties_;
  std::vector<int> ready_;
};

}  // namespace

int ActivationBound(const ProgramSpec& spec, int phase, int rank) {
  const int m = spec.micro_batches();
  const int p = spec.ranks;
  const int v = spec.chunks;
  if (!spec.RunsForward(phase)) return v * m;
  switch (spec.schedule) {
    case GPIPE:
      break;
    case INTERLEAVED_1F1B:
      if (v > 1) return std::min(v * m, 2 * (p - rank - 1) + (v - 1) * p + 1);
      [[fallthrough]];
    case ONE_F_ONE_B:
      return std::min(m, p - rank);
    case ZB_H1:
      return std::min(m, p - spec.first_backward_stage);
  }
  return v * m;
}

Status VerifyProgram(const ProgramSpec& spec, std::span<const RankProgram> programs) {
  WEFT_RETURN_IF_ERROR(CheckProgramSpec(spec));
  if (programs.size() != Size(spec.ranks))
    return InvalidArgument("there are lists of " + std::to_string(programs.size()) +
                           " pipeline ranks, but layout.pp: " + Number(spec.ranks));
  return Execution(spec, programs).Run();
}

}  // namespace weft
