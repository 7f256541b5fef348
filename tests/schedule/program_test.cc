#include "parallel/schedule/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/schedule/action_text.h"
#include "parallel/schedule/dp_verifier.h"
#include "parallel/schedule/verifier.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

using enum ActionKind;

// The computing in a list: F, B (both gradients), I, W with the micro-batch; ' for each further stage of
// the rank; J a join.
std::string Computing(const ProgramSpec& spec, const RankProgram& program) {
  std::string text;
  for (const Action& action : program) {
    const char* letters = "FBIW";
    if (action.kind > kBackwardWeight && action.kind != kJoin) continue;
    if (!text.empty()) text += " ";
    text += action.kind == kJoin ? 'J' : letters[static_cast<int>(action.kind)];
    if (action.kind == kJoin) continue;
    text += std::to_string(action.micro_batch);
    text += std::string(static_cast<size_t>(action.stage / spec.ranks), '\'');
  }
  return text;
}

std::vector<std::string> AllComputing(const ProgramSpec& spec) {
  std::vector<std::string> texts;
  const std::vector<RankProgram> programs = *MakeProgram(spec);
  for (const RankProgram& program : programs) texts.push_back(Computing(spec, program));
  return texts;
}

// Of one kind, in order: (stage, round).
std::vector<std::pair<int, int>> Marks(const RankProgram& program, ActionKind kind) {
  std::vector<std::pair<int, int>> marks;
  for (const Action& action : program) {
    if (action.kind == kind) marks.emplace_back(action.stage, action.round);
  }
  return marks;
}

ProgramSpec Spec(PipelineSchedule schedule, int p, int v, int m) {
  ProgramSpec spec;
  spec.schedule = schedule;
  spec.ranks = p;
  spec.chunks = v;
  spec.micro_batches_a_slot = m;
  return spec;
}

std::vector<PhaseSpec> Contrastive() {
  return {{.pass = PassKind::kForward}, {.join = true}, {.pass = PassKind::kBackward}};
}

TEST(ComputeOrderTest, EachSchedule) {
  EXPECT_THAT(AllComputing(Spec(GPIPE, 2, 1, 3)),
              ElementsAre("F0 F1 F2 B0 B1 B2", "F0 F1 F2 B0 B1 B2"));
  EXPECT_THAT(
      AllComputing(Spec(ONE_F_ONE_B, 3, 1, 4)),
      ElementsAre("F0 F1 F2 B0 F3 B1 B2 B3", "F0 F1 B0 F2 B1 F3 B2 B3", "F0 B0 F1 B1 F2 B2 F3 B3"));
  EXPECT_THAT(AllComputing(Spec(ZB_H1, 2, 1, 3)),
              ElementsAre("F0 F1 I0 W0 F2 I1 W1 I2 W2", "F0 I0 F1 I1 W0 F2 I2 W1 W2"));
  EXPECT_THAT(AllComputing(Spec(INTERLEAVED_1F1B, 2, 2, 4)),
              ElementsAre("F0 F1 F0' F1' F2 B0' F3 B1' F2' B0 F3' B1 B2' B3' B2 B3",
                          "F0 F1 F0' B0' F1' B1' F2 B0 F3 B1 F2' B2' F3' B3' B2 B3"));
}

TEST(ComputeOrderTest, FewerMicroBatchesThanStages) {
  EXPECT_THAT(AllComputing(Spec(ONE_F_ONE_B, 4, 1, 2)),
              ElementsAre("F0 F1 B0 B1", "F0 F1 B0 B1", "F0 F1 B0 B1", "F0 B0 F1 B1"));
  EXPECT_THAT(AllComputing(Spec(INTERLEAVED_1F1B, 2, 2, 1)),
              ElementsAre("F0 F0' B0' B0", "F0 F0' B0' B0"));
}

TEST(ComputeOrderTest, OneRankIsThePlainCase) {
  EXPECT_THAT(AllComputing(Spec(ONE_F_ONE_B, 1, 1, 2)), ElementsAre("F0 B0 F1 B1"));
  EXPECT_THAT(AllComputing(Spec(ZB_H1, 1, 1, 2)), ElementsAre("F0 I0 W0 F1 I1 W1"));
  EXPECT_THAT(AllComputing(Spec(INTERLEAVED_1F1B, 1, 2, 2)),
              ElementsAre("F0 F0' B0' F1 B0 F1' B1' B1"));
}

TEST(ComputeOrderTest, PhasesKeepOrRerun) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 2, 1, 2);
  spec.phases = Contrastive();
  EXPECT_THAT(AllComputing(spec), ElementsAre("F0 F1 B0 B1", "F0 F1 J B0 B1"));
  spec.rerun_forward = true;
  EXPECT_THAT(AllComputing(spec), ElementsAre("F0 F1 F0 F1 B0 B1", "F0 F1 J F0 B0 F1 B1"));
}

TEST(ComputeOrderTest, FrozenStagesHaveNoBackward) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 2, 1, 2);
  spec.first_backward_stage = 1;
  const auto programs = *MakeProgram(spec);
  EXPECT_EQ(ProgramText(programs[0]),
            "    0 forward of stage 0, micro-batch 0, phase 0\n"
            "    1 send activations to rank 1 from stage 0, micro-batch 0, phase 0\n"
            "    2 forward of stage 0, micro-batch 1, phase 0\n"
            "    3 send activations to rank 1 from stage 0, micro-batch 1, phase 0\n");
  EXPECT_EQ(Computing(spec, programs[1]), "F0 B0 F1 B1");
  for (const auto schedule : {GPIPE, ONE_F_ONE_B, INTERLEAVED_1F1B, ZB_H1}) {
    spec.schedule = schedule;
    spec.first_backward_stage = 2;
    EXPECT_THAT(AllComputing(spec), ElementsAre("F0 F1", "F0 F1"));
    EXPECT_TRUE(VerifyProgram(spec, *MakeProgram(spec)).ok());
  }
  spec.first_backward_stage = 3;
  EXPECT_EQ(
      MakeProgram(spec).status().message(),
      "first stage with a backward: stage 3 is none of layout.pp * layout.virtual_stages = 2");
}

TEST(ProgramTest, OneListInFull) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 2, 1, 1);
  spec.slots = 2;
  spec.zero_stage = 2;
  spec.ties = {{0, 1}};
  EXPECT_EQ(ProgramText((*MakeProgram(spec))[0]),
            "    0 forward of stage 0, micro-batch 0, phase 0\n"
            "    1 send activations to rank 1 from stage 0, micro-batch 0, phase 0\n"
            "    2 forward of stage 0, micro-batch 1, phase 0\n"
            "    3 send activations to rank 1 from stage 0, micro-batch 1, phase 0\n"
            "    4 receive gradients from rank 1 for stage 0, micro-batch 0, phase 0\n"
            "    5 backward of stage 0, micro-batch 0, phase 0\n"
            "    6 slot done of stage 0, slot 0, phase 0\n"
            "    7 reduce of stage 0, round 0, phase 0\n"
            "    8 receive gradients from rank 1 for stage 0, micro-batch 1, phase 0\n"
            "    9 backward of stage 0, micro-batch 1, phase 0\n"
            "   10 slot done of stage 0, slot 1, phase 0\n"
            "   11 reduce of stage 0, round 1, phase 0\n"
            "   12 tie 0 of stage 0 with rank 1\n");
}

TEST(ProgramTest, ReducesOfEachZeroStage) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 1, 1, 1);
  spec.dp = 2;
  spec.slots = 5;
  spec.dp_rank = 1;
  EXPECT_THAT(Marks((*MakeProgram(spec))[0], kSlotDone), ElementsAre(Pair(0, 0), Pair(0, 1)));
  EXPECT_THAT(Marks((*MakeProgram(spec))[0], kReduce), ElementsAre(Pair(0, 0)));
  // The third round lacks a slot of this rank.
  spec.zero_stage = 2;
  EXPECT_THAT(Marks((*MakeProgram(spec))[0], kSlotDone), ElementsAre(Pair(0, 0), Pair(0, 1)));
  EXPECT_THAT(Marks((*MakeProgram(spec))[0], kReduce),
              ElementsAre(Pair(0, 0), Pair(0, 1), Pair(0, 2)));
}

TEST(ProgramTest, GathersOnceAStep) {
  ProgramSpec spec = Spec(INTERLEAVED_1F1B, 2, 2, 4);
  spec.zero_stage = 3;
  const auto programs = *MakeProgram(spec);
  EXPECT_THAT(Marks(programs[0], kGather), ElementsAre(Pair(0, 0), Pair(2, 0)));
  EXPECT_THAT(Marks(programs[0], kRelease), ElementsAre(Pair(2, 0), Pair(0, 0)));
  // Stage 2 is used first after the second forward; its gather stands before that forward.
  EXPECT_EQ(programs[0][0].kind, kGather);
  EXPECT_EQ(programs[0][3].kind, kGather);
  EXPECT_EQ(programs[0][4], (Action{.kind = kForward, .stage = 0, .micro_batch = 1}));
}

TEST(ProgramTest, GathersAroundEachUse) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 1, 1, 1);
  spec.zero_stage = 3;
  EXPECT_EQ(ProgramText((*MakeProgram(spec))[0]),
            "    0 gather of stage 0\n"
            "    1 forward of stage 0, micro-batch 0, phase 0\n"
            "    2 release of stage 0\n"
            "    3 gather of stage 0\n"
            "    4 backward of stage 0, micro-batch 0, phase 0\n"
            "    5 release of stage 0\n"
            "    6 slot done of stage 0, slot 0, phase 0\n"
            "    7 reduce of stage 0, round 0, phase 0\n");
  // A rank that lacks the last slot takes part in its gathers.
  spec.dp = 2;
  spec.slots = 3;
  spec.dp_rank = 1;
  EXPECT_EQ(Marks((*MakeProgram(spec))[0], kGather).size(), 4U);
}

TEST(ProgramTest, TiesOnOneRankAreOneAction) {
  ProgramSpec spec = Spec(INTERLEAVED_1F1B, 2, 2, 2);
  spec.ties = {{0, 2}, {0, 3}, {1, 1}};
  const auto programs = *MakeProgram(spec);
  EXPECT_THAT(Marks(programs[0], kTie), ElementsAre(Pair(0, 0), Pair(0, 1)));
  EXPECT_THAT(Marks(programs[1], kTie), ElementsAre(Pair(3, 1), Pair(1, 2)));
  spec.phases = {{.pass = PassKind::kForward}};
  EXPECT_THAT(Marks((*MakeProgram(spec))[0], kTie), ElementsAre());
}

TEST(ProgramTest, EachBackwardPhaseHasSlotsOfItsOwn) {
  ProgramSpec spec = Spec(ONE_F_ONE_B, 2, 1, 2);
  spec.slots = 2;
  spec.phases = {{.pass = PassKind::kForward, .wave = 0},
                 {.join = true},
                 {.pass = PassKind::kTrain, .wave = 1},
                 {.pass = PassKind::kBackward, .wave = 0}};
  const auto programs = *MakeProgram(spec);
  EXPECT_TRUE(VerifyProgram(spec, programs).ok()) << VerifyProgram(spec, programs);
  EXPECT_EQ(Marks(programs[0], kSlotDone).size(), 4U);
  EXPECT_EQ(Marks(programs[0], kReduce).size(), 2U);
}

std::string Refusal(const ProgramSpec& spec) {
  const auto programs = MakeProgram(spec);
  return programs.ok() ? "" : programs.status().message();
}

TEST(RefusalTest, NamesTheFieldTheRuleAndWhatWorks) {
  EXPECT_EQ(Refusal(Spec(ZB_H1, 2, 2, 4)),
            "layout.virtual_stages: 2, but ZB_H1 has one stage a rank; use virtual_stages: 1 or "
            "schedule: INTERLEAVED_1F1B");
  EXPECT_EQ(Refusal(Spec(GPIPE, 0, 1, 4)), "layout.pp: 0 is less than 1; the nearest value is 1");
  ProgramSpec spec = Spec(GPIPE, 2, 1, 4);
  spec.dp = 3;
  spec.slots = 2;
  EXPECT_EQ(
      Refusal(spec),
      "layout.dp: 3 data-parallel ranks share batch.slots: 2, and each needs one; the nearest "
      "value is 2");
  spec = Spec(GPIPE, 2, 1, 4);
  spec.zero_stage = 4;
  EXPECT_EQ(Refusal(spec), "layout.zero_stage: 4 is not 1, 2 or 3; the nearest value is 3");
  spec = Spec(GPIPE, 2, 1, 4);
  spec.ties = {{0, 2}};
  EXPECT_EQ(Refusal(spec),
            "replica of a tie: stage 2 is none of layout.pp * layout.virtual_stages = 2");
}

TEST(RefusalTest, PhasesThatDoNotFitTogether) {
  ProgramSpec spec = Spec(GPIPE, 2, 1, 4);
  spec.phases = {{.pass = PassKind::kBackward}};
  EXPECT_EQ(Refusal(spec),
            "objective: phase 0: a Backward needs one Forward of its wave before it");
  spec.phases = {{.pass = PassKind::kForward}, {.pass = PassKind::kTrain}};
  EXPECT_EQ(Refusal(spec),
            "objective: phase 1: its wave has run before; give this run a wave of its own");
}

// Every phase list, ZeRO stage and share of slots, spread over the combinations.
void Vary(int seed, ProgramSpec* spec) {
  switch (seed % 3) {
    case 1:
      spec->phases = Contrastive();
      break;
    case 2:
      spec->phases = Contrastive();
      spec->rerun_forward = true;
      break;
    default:
      break;
  }
}

// Shares m micro-batches out to slots in some way that depends on the seed.
void ShareOut(int m, int seed, ProgramSpec* spec) {
  spec->micro_batches_a_slot = m % 4 == 0 && seed % 2 == 0 ? 4 : m % 3 == 0 ? 3 : 1;
  const int own = m / spec->micro_batches_a_slot;
  spec->dp = 1 + seed % 3;
  spec->zero_stage = 1 + seed % 5 % 3;
  spec->gather = seed % 7 < 3 ? GATHER_MICRO_BATCH : GATHER_STEP;
  // The last rank may have one slot less; then it has `own`, or the first has.
  spec->slots = own * spec->dp;
  if (seed % 4 == 1 && own > 1) spec->slots -= 1;
  spec->dp_rank = seed % 4 == 1 ? spec->dp - 1 : 0;
  spec->first_backward_stage = seed % 6 == 0 ? seed % spec->num_stages() : 0;
  if (seed % 5 == 0) spec->ties = {{0, spec->num_stages() - 1}};
}

int VerifyAll(PipelineSchedule schedule, int max_chunks) {
  int programs = 0;
  for (int p = 1; p <= 16; ++p) {
    for (int v = 1; v <= max_chunks; ++v) {
      for (int m = 1; m <= 64; ++m) {
        ProgramSpec spec;
        spec.schedule = schedule;
        spec.ranks = p;
        spec.chunks = v;
        for (int pass = 0; pass < 3; ++pass) {
          const int seed = 7 * p + 13 * v + m + pass;
          Vary(pass, &spec);
          ShareOut(m, seed, &spec);
          const auto program = MakeProgram(spec);
          EXPECT_TRUE(program.ok()) << program.status();
          const Status status = VerifyProgram(spec, *program);
          EXPECT_TRUE(status.ok()) << status << " p " << p << " v " << v << " m " << m << " pass "
                                   << pass << " seed " << seed;
          if (!status.ok()) return programs;
          ++programs;
        }
      }
    }
  }
  return programs;
}

TEST(EveryProgramTest, GPipe) { EXPECT_EQ(VerifyAll(GPIPE, 1), 16 * 64 * 3); }
TEST(EveryProgramTest, OneForwardOneBackward) { EXPECT_EQ(VerifyAll(ONE_F_ONE_B, 1), 16 * 64 * 3); }
TEST(EveryProgramTest, Interleaved) { EXPECT_EQ(VerifyAll(INTERLEAVED_1F1B, 4), 16 * 4 * 64 * 3); }
// All dp ranks together, each with its share of the slots.
TEST(EveryProgramTest, FitsAcrossDp) {
  for (const auto schedule : {GPIPE, ONE_F_ONE_B, INTERLEAVED_1F1B, ZB_H1}) {
    for (const int p : {1, 2, 3, 4, 8}) {
      for (int seed = 0; seed < 36; ++seed) {
        ProgramSpec spec = Spec(schedule, p, schedule == INTERLEAVED_1F1B ? 2 : 1, 1 + seed % 3);
        Vary(seed, &spec);
        spec.dp = 2 + seed % 4;
        spec.slots = spec.dp * (seed % 2) + spec.dp + seed % spec.dp;
        spec.zero_stage = 1 + seed / 3 % 3;
        spec.gather = seed / 9 % 2 == 0 ? GATHER_STEP : GATHER_MICRO_BATCH;
        std::vector<std::vector<RankProgram>> world;
        for (spec.dp_rank = 0; spec.dp_rank < spec.dp; ++spec.dp_rank) {
          world.push_back(*MakeProgram(spec));
          const Status status = VerifyProgram(spec, world.back());
          ASSERT_TRUE(status.ok()) << status << " seed " << seed;
        }
        spec.dp_rank = 0;
        const Status status = VerifyAcrossDp(spec, world);
        ASSERT_TRUE(status.ok()) << status << " p " << p << " seed " << seed;
      }
    }
  }
}

TEST(EveryProgramTest, ZeroBubble) { EXPECT_EQ(VerifyAll(ZB_H1, 1), 16 * 64 * 3); }

}  // namespace
}  // namespace weft
