#include "parallel/schedule/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/schedule/action_text.h"
#include "parallel/schedule/verifier.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

std::vector<PhaseSpec> Contrastive() {
  return {{.pass = PassKind::kForward}, {.join = true}, {.pass = PassKind::kBackward}};
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
TEST(EveryProgramTest, ZeroBubble) { EXPECT_EQ(VerifyAll(ZB_H1, 1), 16 * 64 * 3); }

}  // namespace
}  // namespace weft
