// Random changes to valid lists: what the verifiers still accept has to compute the same.
#include <gtest/gtest.h>

#include <random>

#include "parallel/schedule/action_text.h"
#include "parallel/schedule/dp_verifier.h"
#include "parallel/schedule/verifier.h"
#include "tests/schedule/reference_machine.h"

namespace weft {
namespace {

class Fuzzer {
 public:
  explicit Fuzzer(unsigned seed) : random_(seed) {}

  int Below(size_t n) { return static_cast<int>(random_() % n); }

  ProgramSpec RandomSpec() {
    ProgramSpec spec;
    spec.schedule = static_cast<PipelineSchedule>(Below(4));
    spec.ranks = 1 + Below(4);
    spec.chunks = spec.schedule == INTERLEAVED_1F1B ? 1 + Below(3) : 1;
    spec.micro_batches_a_slot = 1 + Below(3);
    spec.dp = 2;
    spec.slots = 2 + Below(4);
    spec.dp_rank = Below(2);
    spec.zero_stage = 1 + Below(3);
    spec.gather = Below(2) == 0 ? GATHER_STEP : GATHER_MICRO_BATCH;
    if (Below(2) == 0) {
      spec.phases = {{.pass = PassKind::kForward}, {.join = true}, {.pass = PassKind::kBackward}};
      spec.rerun_forward = Below(2) == 0;
    }
    if (Below(3) == 0) spec.ties = {{0, spec.num_stages() - 1}};
    if (Below(3) == 0) spec.first_backward_stage = Below(static_cast<size_t>(spec.num_stages()));
    return spec;
  }

  void Mutate(std::vector<RankProgram>* programs) {
    RankProgram& list = (*programs)[static_cast<size_t>(Below(programs->size()))];
    if (list.empty()) return;
    const auto at = [&](RankProgram& any) {
      return any.begin() + (any.empty() ? 0 : Below(any.size()));
    };
    const auto place = at(list);
    const Action action = *place;
    switch (Below(7)) {
      case 0:
        list.erase(place);
        break;
      case 1:
        list.insert(at(list), action);
        break;
      case 2:  // neighbours
        if (place + 1 != list.end()) std::iter_swap(place, place + 1);
        break;
      case 3:
        std::iter_swap(place, at(list));
        break;
      case 4: {  // a few places on
        list.erase(place);
        const size_t from = static_cast<size_t>(place - list.begin());
        const size_t to = std::min(list.size(), from + static_cast<size_t>(Below(6)));
        list.insert(list.begin() + static_cast<long>(to), action);
        break;
      }
      case 5:
        ChangeField(&*place);
        break;
      case 6: {  // to another rank
        list.erase(place);
        RankProgram& other = (*programs)[static_cast<size_t>(Below(programs->size()))];
        other.insert(at(other), action);
        break;
      }
    }
  }

 private:
  void ChangeField(Action* action) {
    const int by = Below(2) == 0 ? -1 : 1;
    switch (Below(6)) {
      case 0:
        action->kind = static_cast<ActionKind>(Below(14));
        break;
      case 1:
        action->phase += by;
        break;
      case 2:
        action->stage += by;
        break;
      case 3:
        action->micro_batch += by;
        break;
      case 4:
        action->peer += by;
        break;
      case 5:
        action->round += by;
        break;
    }
  }

  std::mt19937 random_;
};

// The lists of all dp ranks, those of spec.dp_rank replaced.
Status Verify(const ProgramSpec& spec, const std::vector<RankProgram>& programs) {
  WEFT_RETURN_IF_ERROR(VerifyProgram(spec, programs));
  std::vector<std::vector<RankProgram>> world;
  ProgramSpec other = spec;
  for (other.dp_rank = 0; other.dp_rank < spec.dp; ++other.dp_rank)
    world.push_back(other.dp_rank == spec.dp_rank ? programs : *MakeProgram(other));
  return VerifyAcrossDp(spec, world);
}

TEST(FuzzTest, MutatedProgramsAreRefusedOrComputeTheSame) {
  int accepted = 0;
  int refused = 0;
  for (unsigned seed = 0; seed < 1500; ++seed) {
    Fuzzer fuzzer(seed);
    const ProgramSpec spec = fuzzer.RandomSpec();
    const std::vector<RankProgram> valid = *MakeProgram(spec);
    const Status status = Verify(spec, valid);
    ASSERT_TRUE(status.ok()) << seed << " " << status;
    const auto expected = ReferenceMachine(spec, valid, seed).Run();
    ASSERT_TRUE(expected.has_value()) << seed;
    for (int trial = 0; trial < 25; ++trial) {
      std::vector<RankProgram> mutated = valid;
      for (int n = 1 + fuzzer.Below(2); n > 0; --n) fuzzer.Mutate(&mutated);
      if (mutated == valid) continue;
      if (!Verify(spec, mutated).ok()) {
        ++refused;
        continue;
      }
      ++accepted;
      for (unsigned turns = 0; turns < 3; ++turns) {
        ASSERT_EQ(ReferenceMachine(spec, mutated, turns).Run(), expected)
            << "seed " << seed << " trial " << trial << "\nvalid\n"
            << ProgramText(valid[0]) << "\nmutated\n"
            << ProgramText(mutated[0]);
      }
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 10000);
  RecordProperty("accepted", accepted);
  RecordProperty("refused", refused);
}

// Every schedule, ZeRO stage and share of slots computes what one rank does with GPipe.
TEST(FuzzTest, AllProgramsOfASpecComputeTheSame) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    Fuzzer fuzzer(1000 + seed);
    ProgramSpec spec = fuzzer.RandomSpec();
    spec.zero_stage = 2;
    const auto value = ReferenceMachine(spec, *MakeProgram(spec), seed).Run();
    ASSERT_TRUE(value.has_value()) << seed;
    if (spec.chunks == 1) {
      for (const auto schedule : {GPIPE, ONE_F_ONE_B, ZB_H1}) {
        spec.schedule = schedule;
        EXPECT_EQ(ReferenceMachine(spec, *MakeProgram(spec), 1).Run(), value) << seed;
      }
    }
    spec.zero_stage = 3;
    EXPECT_EQ(ReferenceMachine(spec, *MakeProgram(spec), 1).Run(), value) << seed;
  }
}

}  // namespace
}  // namespace weft
