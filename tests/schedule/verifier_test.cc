#include "parallel/schedule/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/schedule/action_text.h"
#include "parallel/schedule/dp_verifier.h"

namespace weft {
namespace {

using enum ActionKind;

// Valid lists that a test breaks.
class Lists {
 public:
  explicit Lists(const ProgramSpec& spec) : spec_(spec), programs_(*MakeProgram(spec)) {
    EXPECT_EQ(Sentence(), "");
  }

  // The first action like this, from the start of a rank's list.
  size_t Find(int rank, Action wanted) const {
    const RankProgram& list = programs_[static_cast<size_t>(rank)];
    const auto it = std::find_if(list.begin(), list.end(), [&](const Action& action) {
      return action.kind == wanted.kind && action.stage == wanted.stage &&
             action.phase == wanted.phase && action.round == wanted.round &&
             action.micro_batch == wanted.micro_batch;
    });
    EXPECT_NE(it, list.end()) << ActionText(wanted) << "\n" << ProgramText(list);
    return static_cast<size_t>(it - list.begin());
  }

  RankProgram& operator[](int rank) { return programs_[static_cast<size_t>(rank)]; }

  Lists& Swap(int rank, Action a, Action b) {
    std::swap((*this)[rank][Find(rank, a)], (*this)[rank][Find(rank, b)]);
    return *this;
  }
  Lists& Remove(int rank, Action wanted) {
    RankProgram& list = (*this)[rank];
    list.erase(list.begin() + static_cast<long>(Find(rank, wanted)));
    return *this;
  }
  // To the place before another action.
  Lists& Move(int rank, Action wanted, Action before) {
    RankProgram& list = (*this)[rank];
    const Action moved = list[Find(rank, wanted)];
    Remove(rank, wanted);
    list.insert(list.begin() + static_cast<long>(Find(rank, before)), moved);
    return *this;
  }
  Lists& Repeat(int rank, Action wanted) {
    RankProgram& list = (*this)[rank];
    const size_t at = Find(rank, wanted);
    const Action action = list[at];
    list.insert(list.begin() + static_cast<long>(at), action);
    return *this;
  }
  Lists& Append(int rank, Action action) {
    (*this)[rank].push_back(action);
    return *this;
  }

  std::string Sentence() const { return VerifyProgram(spec_, programs_).message(); }

 private:
  ProgramSpec spec_;
  std::vector<RankProgram> programs_;
};

Action At(ActionKind kind, int stage, int micro_batch, int phase = 0) {
  return {.kind = kind, .phase = phase, .stage = stage, .micro_batch = micro_batch};
}
Action Mark(ActionKind kind, int stage, int round = 0, int phase = 0) {
  return {.kind = kind, .phase = phase, .stage = stage, .round = round};
}

ProgramSpec TwoRanks(PipelineSchedule schedule = ONE_F_ONE_B) {
  ProgramSpec spec;
  spec.ranks = 2;
  spec.schedule = schedule;
  spec.slots = 2;
  spec.micro_batches_a_slot = 2;
  return spec;
}

ProgramSpec Contrastive() {
  ProgramSpec spec = TwoRanks();
  spec.phases = {{.pass = PassKind::kForward}, {.join = true}, {.pass = PassKind::kBackward}};
  return spec;
}

ProgramSpec Sharded(GatherMode gather) {
  ProgramSpec spec = TwoRanks(INTERLEAVED_1F1B);
  spec.chunks = 2;
  spec.zero_stage = 3;
  spec.gather = gather;
  return spec;
}

TEST(BrokenMessagesTest, SwappedSends) {
  EXPECT_EQ(
      Lists(TwoRanks()).Move(0, At(kSendForward, 0, 0), At(kRecvBackward, 0, 0)).Sentence(),
      "pipeline rank 1, action 0 (receive activations from rank 0 for stage 1, micro-batch 0, "
      "phase 0): the next message of that rank is another: send activations to rank 1 from "
      "stage 0, micro-batch 1, phase 0");
}

TEST(BrokenMessagesTest, MissingSend) {
  EXPECT_EQ(
      Lists(TwoRanks()).Remove(0, At(kSendForward, 0, 3)).Sentence(),
      "pipeline rank 1, action 13 (receive activations from rank 0 for stage 1, micro-batch 3, "
      "phase 0): rank 0 never sends it");
}

TEST(BrokenMessagesTest, MissingReceive) {
  EXPECT_EQ(
      Lists(TwoRanks()).Remove(1, At(kRecvForward, 1, 2)).Sentence(),
      "pipeline rank 1, action 9 (forward of stage 1, micro-batch 2, phase 0): the activations "
      "of stage 0 are not here yet");
  EXPECT_EQ(
      Lists(TwoRanks()).Remove(0, At(kRecvBackward, 0, 3)).Sentence(),
      "pipeline rank 0, action 15 (backward of stage 0, micro-batch 3, phase 0): the gradients "
      "of stage 1 are not here yet");
}

TEST(BrokenMessagesTest, NeverReceived) {
  Lists lists(TwoRanks());
  lists.Remove(0, At(kRecvBackward, 0, 3)).Remove(0, At(kBackward, 0, 3));
  lists.Remove(0, Mark(kSlotDone, 0, 1)).Remove(0, Mark(kReduce, 0));
  EXPECT_EQ(
      lists.Sentence(),
      "pipeline rank 0: never receives what rank 1 sends: send gradients to rank 0 from stage "
      "1, micro-batch 3, phase 0");
}

TEST(BrokenMessagesTest, SentTooEarlyTwiceOrElsewhere) {
  EXPECT_EQ(Lists(TwoRanks()).Move(0, At(kSendForward, 0, 1), At(kForward, 0, 1)).Sentence(),
            "pipeline rank 0, action 2 (send activations to rank 1 from stage 0, micro-batch 1, "
            "phase 0): it is not computed yet");
  EXPECT_EQ(
      Lists(TwoRanks()).Repeat(1, At(kSendBackward, 1, 0)).Sentence(),
      "pipeline rank 1, action 4 (send gradients to rank 0 from stage 1, micro-batch 0, phase "
      "0): a second time");
  Lists lists(TwoRanks());
  lists[1][3].peer = 1;
  EXPECT_EQ(
      lists.Sentence(),
      "pipeline rank 1, action 3 (send gradients to rank 1 from stage 1, micro-batch 0, phase "
      "0): stage 0 is on rank 0");
  EXPECT_EQ(Lists(TwoRanks()).Append(1, At(kSendForward, 1, 0)).Sentence(),
            "pipeline rank 1, action 19 (send activations to rank -1 from stage 1, micro-batch 0, "
            "phase 0): there is no message between this stage and that one");
}

TEST(BrokenMessagesTest, Deadlock) {
  EXPECT_EQ(
      Lists(TwoRanks()).Move(0, At(kRecvBackward, 0, 0), At(kForward, 0, 0)).Sentence(),
      "pipeline rank 0, action 0 (receive gradients from rank 1 for stage 0, micro-batch 0, "
      "phase 0): waits for ever, as pipeline rank 1, action 0 (receive activations from rank 0 "
      "for stage 1, micro-batch 0, phase 0) waits for rank 0");
}

TEST(BrokenOrderTest, WeightGradients) {
  Lists lists(TwoRanks(ZB_H1));
  lists.Swap(1, At(kBackwardWeight, 1, 2), At(kBackwardWeight, 1, 3));
  EXPECT_EQ(lists.Sentence(),
            "pipeline rank 1, action 19 (weight gradients of stage 1, micro-batch 3, phase 0): "
            "weight gradients out of order: micro-batch 2 comes first");
  Lists early(TwoRanks(ZB_H1));
  early.Swap(1, At(kBackwardInput, 1, 0), At(kBackwardWeight, 1, 0));
  EXPECT_EQ(early.Sentence(),
            "pipeline rank 1, action 2 (weight gradients of stage 1, micro-batch 0, phase 0): its "
            "input gradients have not run");
}

TEST(BrokenOrderTest, Backwards) {
  EXPECT_EQ(
      Lists(TwoRanks(GPIPE)).Swap(1, At(kBackward, 1, 0), At(kBackward, 1, 1)).Sentence(),
      "pipeline rank 1, action 8 (backward of stage 1, micro-batch 1, phase 0): backward out of "
      "order: micro-batch 0 comes first");
  EXPECT_EQ(Lists(TwoRanks()).Swap(1, At(kBackward, 1, 0), At(kForward, 1, 0)).Sentence(),
            "pipeline rank 1, action 1 (backward of stage 1, micro-batch 0, phase 0): its forward "
            "has not run");
}

TEST(BrokenOrderTest, OnceEach) {
  EXPECT_EQ(
      Lists(TwoRanks()).Repeat(0, At(kForward, 0, 1)).Sentence(),
      "pipeline rank 0, action 3 (forward of stage 0, micro-batch 1, phase 0): a second time");
  EXPECT_EQ(
      Lists(TwoRanks()).Repeat(1, At(kBackward, 1, 1)).Sentence(),
      "pipeline rank 1, action 7 (backward of stage 1, micro-batch 1, phase 0): a second time");
  ProgramSpec spec = TwoRanks();
  spec.phases = {{.pass = PassKind::kForward}};
  Lists none(spec);
  none.Remove(1, At(kForward, 1, 3));
  EXPECT_EQ(none.Sentence(),
            "pipeline rank 1, stage 1: lacks the forward of micro-batch 3 in phase 0");
  Lists weights(TwoRanks(ZB_H1));
  weights.Remove(0, At(kBackwardWeight, 0, 3));
  weights.Remove(0, Mark(kSlotDone, 0, 1)).Remove(0, Mark(kReduce, 0));
  EXPECT_EQ(weights.Sentence(),
            "pipeline rank 0, stage 0: lacks the weight gradients of micro-batch 3 in phase 0");
}

TEST(BrokenOrderTest, NotOfThisRank) {
  EXPECT_EQ(
      Lists(TwoRanks()).Append(0, At(kForward, 1, 0)).Sentence(),
      "pipeline rank 0, action 19 (forward of stage 1, micro-batch 0, phase 0): stage 1 is not "
      "on this rank");
  EXPECT_EQ(
      Lists(TwoRanks()).Append(0, At(kForward, 0, 4)).Sentence(),
      "pipeline rank 0, action 19 (forward of stage 0, micro-batch 4, phase 0): this rank has "
      "micro-batches 0 to 3");
  EXPECT_EQ(
      Lists(TwoRanks()).Append(0, At(kForward, 0, 0, 1)).Sentence(),
      "pipeline rank 0, action 19 (forward of stage 0, micro-batch 0, phase 1): the objective "
      "has phases 0 to 0");
  const std::vector<RankProgram> one(1);
  EXPECT_EQ(VerifyProgram(TwoRanks(), one).message(),
            "there are lists of 1 pipeline ranks, but layout.pp: 2");
}

TEST(BrokenSlotsTest, DoneInTime) {
  EXPECT_EQ(
      Lists(TwoRanks()).Remove(0, Mark(kSlotDone, 0, 0)).Sentence(),
      "pipeline rank 0, action 13 (backward of stage 0, micro-batch 2, phase 0): slot 0 of the "
      "stage is not done yet");
  EXPECT_EQ(
      Lists(TwoRanks()).Move(0, Mark(kSlotDone, 0, 0), At(kBackward, 0, 1)).Sentence(),
      "pipeline rank 0, action 9 (slot done of stage 0, slot 0, phase 0): the weight gradients "
      "of micro-batch 1 come first");
  EXPECT_EQ(
      Lists(TwoRanks()).Repeat(0, Mark(kSlotDone, 0, 0)).Sentence(),
      "pipeline rank 0, action 11 (slot done of stage 0, slot 0, phase 0): out of order: 1 of "
      "2 slots are done");
}

TEST(BrokenSlotsTest, Reduced) {
  EXPECT_EQ(Lists(TwoRanks()).Remove(0, Mark(kReduce, 0)).Sentence(),
            "pipeline rank 0, stage 0: lacks the reduce of round 0 in phase 0");
  EXPECT_EQ(Lists(TwoRanks()).Swap(0, Mark(kReduce, 0), Mark(kSlotDone, 0, 1)).Sentence(),
            "pipeline rank 0, action 17 (reduce of stage 0, round 0, phase 0): slot 1 is not done "
            "yet");
  EXPECT_EQ(
      Lists(TwoRanks()).Repeat(0, Mark(kReduce, 0)).Sentence(),
      "pipeline rank 0, action 19 (reduce of stage 0, round 0, phase 0): out of order: 1 of 1 "
      "rounds are reduced");
  ProgramSpec spec = TwoRanks();
  spec.zero_stage = 2;
  EXPECT_EQ(
      Lists(spec).Swap(0, Mark(kReduce, 0, 0), Mark(kReduce, 0, 1)).Sentence(),
      "pipeline rank 0, action 11 (reduce of stage 0, round 1, phase 0): out of order: 0 of 2 "
      "rounds are reduced");
  EXPECT_EQ(
      Lists(spec).Move(0, Mark(kReduce, 0, 0), Mark(kReduce, 0, 1)).Sentence(),
      "pipeline rank 0, action 17 (slot done of stage 0, slot 1, phase 0): the reduce of round "
      "0 comes first");
}

TEST(BrokenJoinTest, BetweenWhatItReadsAndWhatNeedsIt) {
  EXPECT_EQ(
      Lists(Contrastive()).Move(1, Mark(kJoin, 1, 0, 1), At(kForward, 1, 3)).Sentence(),
      "pipeline rank 1, action 7 (join of phase 1): phase 0 is not complete on the last stage");
  EXPECT_EQ(Lists(Contrastive()).Remove(1, Mark(kJoin, 1, 0, 1)).Sentence(),
            "pipeline rank 1, action 8 (backward of stage 1, micro-batch 0, phase 2): the join of "
            "phase 1 has to come first");
  EXPECT_EQ(Lists(Contrastive()).Repeat(1, Mark(kJoin, 1, 0, 1)).Sentence(),
            "pipeline rank 1, action 9 (join of phase 1): a second time");
}

TEST(BrokenGatherTest, UseOnlyWhileGathered) {
  const ProgramSpec step = Sharded(GATHER_STEP);
  EXPECT_EQ(Lists(step).Move(1, Mark(kRelease, 3), At(kBackward, 3, 3)).Sentence(),
            "pipeline rank 1, action 39 (backward of stage 3, micro-batch 3, phase 0): use of "
            "parameters after their release");
  EXPECT_EQ(Lists(step).Remove(1, Mark(kGather, 3)).Sentence(),
            "pipeline rank 1, action 8 (forward of stage 3, micro-batch 0, phase 0): use of "
            "parameters before their gather");
  EXPECT_EQ(Lists(step).Remove(1, Mark(kRelease, 3)).Sentence(),
            "pipeline rank 1, stage 3: has no release after its last gather");
  EXPECT_EQ(Lists(step).Append(1, Mark(kGather, 3)).Sentence(),
            "pipeline rank 1, action 52 (gather of stage 3): GATHER_STEP gathers once a step");
  EXPECT_EQ(Lists(step).Repeat(1, Mark(kGather, 3)).Sentence(),
            "pipeline rank 1, action 5 (gather of stage 3): the stage is gathered already");
  EXPECT_EQ(Lists(TwoRanks()).Append(0, Mark(kGather, 0)).Sentence(),
            "pipeline rank 0, action 19 (gather of stage 0): only ZeRO 3 shards parameters");
}

TEST(BrokenGatherTest, OneStageAhead) {
  ProgramSpec spec = Sharded(GATHER_MICRO_BATCH);
  spec.chunks = 3;
  EXPECT_EQ(Lists(spec).Move(0, Mark(kGather, 4), At(kForward, 0, 0)).Sentence(),
            "pipeline rank 0, action 6 (gather of stage 2): more than one stage ahead is gathered");
}

TEST(BrokenTieTest, AfterTheLastReduceOnBothRanks) {
  ProgramSpec spec = TwoRanks();
  spec.ties = {{0, 1}};
  EXPECT_EQ(Lists(spec).Remove(1, Mark(kTie, 1)).Sentence(),
            "pipeline rank 0, action 19 (tie 0 of stage 0 with rank 1): waits for ever, as rank 1 "
            "comes to its end without it");
  EXPECT_EQ(Lists(spec).Swap(1, Mark(kTie, 1), Mark(kReduce, 1)).Sentence(),
            "pipeline rank 1, action 18 (tie 0 of stage 1 with rank 0): the last reduce of stage 1 "
            "comes first");
  EXPECT_EQ(Lists(spec).Repeat(0, Mark(kTie, 0)).Sentence(),
            "pipeline rank 0, action 20 (tie 0 of stage 0 with rank 1): a second time");
  EXPECT_EQ(Lists(spec).Remove(0, Mark(kTie, 0)).Remove(1, Mark(kTie, 1)).Sentence(),
            "pipeline rank 0: lacks tie 0");
}

TEST(ActivationBoundTest, RefusesWhatKeepsMore) {
  ProgramSpec spec = TwoRanks(GPIPE);
  const auto lists = MakeProgram(spec);
  spec.schedule = ONE_F_ONE_B;
  EXPECT_EQ(VerifyProgram(spec, *lists).message(),
            "pipeline rank 0, action 4 (forward of stage 0, micro-batch 2, phase 0): keeps the "
            "activations of 3 micro-batches; the schedule's bound is 2");
}

TEST(AcrossDpTest, ReorderedCollective) {
  ProgramSpec spec = Sharded(GATHER_STEP);
  spec.dp = 2;
  spec.slots = 3;
  std::vector<std::vector<RankProgram>> world;
  for (spec.dp_rank = 0; spec.dp_rank < 2; ++spec.dp_rank) world.push_back(*MakeProgram(spec));
  EXPECT_TRUE(VerifyAcrossDp(spec, world).ok());
  RankProgram& list = world[1][0];
  std::vector<Action*> reduces;
  for (Action& action : list) {
    if (action.kind == kReduce) reduces.push_back(&action);
  }
  std::swap(*reduces[0], *reduces[1]);
  EXPECT_EQ(VerifyAcrossDp(spec, world).message(),
            "pipeline rank 0: collective 2 over dp is action 23 (reduce of stage 2, round 0, phase "
            "0) on dp rank 0, but action 19 (reduce of stage 0, round 0, phase 0) on dp rank 1");
  world.pop_back();
  EXPECT_EQ(VerifyAcrossDp(spec, world).message(),
            "there are lists of 1 dp ranks, but layout.dp: 2");
}

// The collectives are the same on all dp ranks, and each dp rank could go on alone.
TEST(AcrossDpTest, DeadlockOfMessagesAndCollectives) {
  ProgramSpec spec = TwoRanks();
  spec.dp = 2;
  const Action send = {.kind = kSendForward, .stage = 0, .micro_batch = 0, .peer = 1};
  const Action recv = {.kind = kRecvForward, .stage = 1, .micro_batch = 0, .peer = 0};
  const Action send_back = {.kind = kSendBackward, .stage = 1, .micro_batch = 0, .peer = 0};
  const Action recv_back = {.kind = kRecvBackward, .stage = 0, .micro_batch = 0, .peer = 1};
  const std::vector<std::vector<RankProgram>> world = {
      {{send, Mark(kGather, 0)}, {Mark(kGather, 1), recv}},
      {{Mark(kGather, 0), send}, {recv, Mark(kGather, 1)}}};
  EXPECT_TRUE(VerifyAcrossDp(spec, world).ok());
  const std::vector<std::vector<RankProgram>> crossed = {
      {{Mark(kGather, 0), send}, {recv, Mark(kGather, 1)}},
      {{recv_back, Mark(kGather, 0)}, {Mark(kGather, 1), send_back}}};
  EXPECT_EQ(VerifyAcrossDp(spec, crossed).message(),
            "dp rank 0, pipeline rank 0, action 0 (gather of stage 0): waits for ever for the "
            "other dp ranks, of which dp rank 1 waits at action 0 (receive gradients from rank 1 "
            "for stage 0, micro-batch 0, phase 0)");
}

}  // namespace
}  // namespace weft
