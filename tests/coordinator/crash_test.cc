// The coordinator and its ranks die after every single call of a save, and the machine comes up again with all that the
// kernel had, with only what was synced, or with something in between. Then: what was announced is there, whatever is
// committed loads to the last element, nothing older is lost, and saving goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/ledger_world.h"

namespace weft {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;

constexpr int kRandomSeeds = 20;

struct Remains {
  CrashMode mode;
  uint64_t seed;
};

std::vector<Remains> AllRemains() {
  std::vector<Remains> all = {{CrashMode::kProcessDied, 0}, {CrashMode::kPowerCut, 0}};
  for (uint64_t seed = 1; seed <= kRandomSeeds; ++seed)
    all.push_back({CrashMode::kRandomRemains, seed});
  return all;
}

// What a new coordinator finds. `announced`: steps that ranks were told of; `kept` of them must be there.
void ExpectRecovered(FaultInjectingFileSystem* fs, const std::vector<int64_t>& must_be_there) {
  // What the journal calls committed loads even before anybody takes over.
  const auto journal = ReplayJournal(fs, "run");
  ASSERT_TRUE(journal.ok()) << journal.status();
  for (const auto& commit : journal->committed) {
    const auto manifest = ReadManifest(fs, "run/ckpt/" + commit.manifest());
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    ASSERT_TRUE(CheckTinyCheckpoint(fs, "run/ckpt", *manifest).ok());
  }
  LedgerWorld next(fs, 2);
  const Status opened = next.Open();
  ASSERT_TRUE(opened.ok()) << opened;
  const std::vector<int64_t> steps = next.CommittedSteps();
  for (const int64_t step : must_be_there) EXPECT_THAT(steps, Contains(step));
  const Status loads = next.CheckCommitted();
  ASSERT_TRUE(loads.ok()) << loads;
  const auto latest = next.committer().LatestManifest();
  ASSERT_TRUE(latest.ok() && *latest);
  EXPECT_EQ((*latest)->state().step(), steps.front());
  ASSERT_TRUE(next.Save(100)) << next.reason();
  EXPECT_EQ(next.CommittedSteps().front(), 100);
  EXPECT_THAT(next.Leftovers(), IsEmpty());
}

int64_t CallsOfOneSave() {
  FaultInjectingFileSystem fs;
  LedgerWorld world(&fs, 2);
  EXPECT_TRUE(world.Open().ok());
  EXPECT_TRUE(world.Save(10) && world.Save(20));
  const int64_t before = fs.num_calls();
  EXPECT_TRUE(world.Save(30));
  return fs.num_calls() - before;
}

TEST(CrashTest, AfterEveryCallOfASave) {
  const int64_t calls = CallsOfOneSave();
  ASSERT_GT(calls, 30);
  int points = 0;
  for (int64_t call = 0; call <= calls; ++call) {
    for (const Remains& remains : AllRemains()) {
      SCOPED_TRACE("after call " + std::to_string(call) + ", mode " +
                   std::to_string(static_cast<int>(remains.mode)) + ", seed " +
                   std::to_string(remains.seed));
      FaultInjectingFileSystem fs;
      bool announced = false;
      {
        LedgerWorld world(&fs, 2);
        ASSERT_TRUE(world.Open().ok());
        ASSERT_TRUE(world.Save(10) && world.Save(20));
        fs.StopAfter(call);
        announced = world.Save(30);
      }
      fs.Crash(remains.mode, remains.seed);
      // Of the newest two, whatever they are, none is lost.
      std::vector<int64_t> must = {20};
      if (announced) must.push_back(30);
      ASSERT_NO_FATAL_FAILURE(ExpectRecovered(&fs, must));
      ++points;
    }
  }
  RecordProperty("crash_points", points);
  std::printf("crash points: %d (%lld calls)\n", points, static_cast<long long>(calls));
}

// Death during the take-over that follows a death.
TEST(CrashTest, AgainDuringRecovery) {
  const int64_t calls = CallsOfOneSave();
  int points = 0;
  for (int64_t first = 0; first <= calls; first += 3) {
    for (int64_t second = 0;; ++second) {
      SCOPED_TRACE("after call " + std::to_string(first) + ", then " + std::to_string(second));
      FaultInjectingFileSystem fs;
      bool announced = false;
      bool recovered = false;
      {
        LedgerWorld world(&fs, 2);
        ASSERT_TRUE(world.Open().ok());
        ASSERT_TRUE(world.Save(10) && world.Save(20));
        fs.StopAfter(first);
        announced = world.Save(30);
      }
      fs.Crash(second % 2 == 0 ? CrashMode::kPowerCut : CrashMode::kRandomRemains,
               static_cast<uint64_t>(first));
      {
        LedgerWorld world(&fs, 2);
        fs.StopAfter(second);
        recovered = world.Open().ok();
      }
      fs.Crash(second % 2 == 0 ? CrashMode::kRandomRemains : CrashMode::kPowerCut,
               static_cast<uint64_t>(second));
      std::vector<int64_t> must = {20};
      if (announced) must.push_back(30);
      ASSERT_NO_FATAL_FAILURE(ExpectRecovered(&fs, must));
      ++points;
      if (recovered) break;
    }
  }
  std::printf("double crash points: %d\n", points);
}

// The first start of a run, before there is anything to lose.
TEST(CrashTest, DuringTheFirstStart) {
  for (int64_t call = 0;; ++call) {
    FaultInjectingFileSystem fs;
    bool started = false;
    {
      LedgerWorld world(&fs, 2);
      fs.StopAfter(call);
      started = world.Open().ok();
    }
    fs.Crash(call % 2 == 0 ? CrashMode::kPowerCut : CrashMode::kRandomRemains,
             static_cast<uint64_t>(call));
    LedgerWorld next(&fs, 2);
    ASSERT_TRUE(next.Open().ok());
    ASSERT_TRUE(next.Save(10));
    if (started) break;
  }
}

}  // namespace
}  // namespace weft
