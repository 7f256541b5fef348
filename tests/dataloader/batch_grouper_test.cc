#include "dataloader/batch_grouper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "cluster/base/hash.h"
#include "cluster/base/philox.h"
#include "dataloader/loader.h"
#include "tests/dataloader/picture_mix.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

struct Shape {
  int64_t batches;
  int64_t slots;
  int64_t rows;
};

std::vector<uint8_t> Kinds(const Shape& shape, double pictures, uint64_t seed) {
  const KeyedRandom random(seed, "kinds", 0);
  std::vector<uint8_t> kinds(static_cast<size_t>(shape.batches * shape.slots * shape.rows));
  for (size_t i = 0; i < kinds.size(); ++i) kinds[i] = random.Uniform(i, 0) < pictures ? 1 : 0;
  return kinds;
}

// Samples that must leave their slot if each slot is to have its share of every batch: each slot has `least` pictures in the
// batches of pictures, and up to `rows` more in the mixed one.
int64_t LeastMoves(const Shape& shape, const std::vector<uint8_t>& kinds) {
  std::vector<int64_t> pictures(static_cast<size_t>(shape.slots));
  for (size_t i = 0; i < kinds.size(); ++i)
    pictures[i / static_cast<size_t>(shape.rows) % pictures.size()] += kinds[i];
  const int64_t all = std::accumulate(pictures.begin(), pictures.end(), int64_t{0});
  const int64_t batch = shape.slots * shape.rows;
  const int64_t least = all / batch * shape.rows;
  const int64_t most = all % batch == 0 ? least : least + shape.rows;
  int64_t above = 0;
  int64_t below = 0;
  for (const int64_t count : pictures) {
    above += std::max<int64_t>(0, count - most);
    below += std::max<int64_t>(0, least - count);
  }
  return 2 * std::max(above, below);
}

void ExpectGrouped(const Shape& shape, const std::vector<uint8_t>& kinds, uint64_t key) {
  const auto grouped = GroupRows(shape.batches, shape.slots, key, kinds);
  ASSERT_EQ(grouped, GroupRows(shape.batches, shape.slots, key, kinds));
  ASSERT_EQ(grouped.size(), kinds.size());
  std::vector<int> seen(kinds.size());
  for (const int32_t place : grouped) ++seen.at(static_cast<size_t>(place));
  ASSERT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<int64_t>(kinds.size()));
  const int64_t batch = shape.slots * shape.rows;
  int64_t mixed = 0;
  int64_t moved = 0;
  for (int64_t b = 0; b < shape.batches; ++b) {
    int64_t pictures = 0;
    for (int64_t i = b * batch; i < (b + 1) * batch; ++i) {
      const int32_t from = grouped[static_cast<size_t>(i)];
      pictures += kinds[static_cast<size_t>(from)];
      moved += i / shape.rows % shape.slots != from / shape.rows % shape.slots ? 1 : 0;
    }
    mixed += pictures != 0 && pictures != batch ? 1 : 0;
  }
  const int64_t all = std::count(kinds.begin(), kinds.end(), 1);
  ASSERT_EQ(mixed, all % batch == 0 ? 0 : 1);
  ASSERT_EQ(moved, LeastMoves(shape, kinds));
}

TEST(GroupRows, BatchesAreOfOneKindButOne) {
  uint64_t seed = 0;
  for (const int64_t batches : {1, 2, 3, 7, 16, 64}) {
    for (const int64_t slots : {1, 2, 6, 24}) {
      for (const int64_t rows : {1, 2, 5, 16}) {
        for (const double pictures : {0.0, 0.02, 0.5, 0.94, 1.0}) {
          const Shape shape = {batches, slots, rows};
          SCOPED_TRACE(::testing::Message() << batches << " batches, " << slots << " slots, "
                                            << rows << " rows, " << pictures << " pictures");
          ExpectGrouped(shape, Kinds(shape, pictures, seed), seed);
          ++seed;
        }
      }
    }
  }
}

// All pictures in the first slots: the kinds are as unevenly spread as can be.
TEST(GroupRows, EvensOutSlotsOfOneKind) {
  for (const int64_t full : {1, 3, 5}) {
    const Shape shape = {10, 6, 4};
    std::vector<uint8_t> kinds;
    for (int64_t i = 0; i < 240; ++i) kinds.push_back(i / 4 % 6 < full ? 1 : 0);
    ExpectGrouped(shape, kinds, 3);
  }
}

TEST(GroupRows, SamplesStayInTheirSlotsAndRows) {
  // LLaVA-1.5's mixture in buckets of 46 batches: one sample in sixteen has no picture.
  const Shape shape = {46, 64, 2};
  const auto kinds = Kinds(shape, 0.94, 1);
  const auto grouped = GroupRows(shape.batches, shape.slots, 1, kinds);
  int64_t slot = 0;
  int64_t row = 0;
  for (size_t i = 0; i < grouped.size(); ++i) {
    slot += i / 2 % 64 == static_cast<size_t>(grouped[i]) / 2 % 64 ? 1 : 0;
    row += i % 128 == static_cast<size_t>(grouped[i]) % 128 ? 1 : 0;
  }
  EXPECT_GT(static_cast<double>(slot) / static_cast<double>(grouped.size()), 0.96);
  EXPECT_GT(static_cast<double>(row) / static_cast<double>(grouped.size()), 0.7);
}

TEST(GroupRows, TheKeyDrawsTheOrderOfBatches) {
  const Shape shape = {16, 4, 2};
  const auto kinds = Kinds(shape, 0.5, 1);
  // Where the batches of pictures stand.
  const auto pattern = [&](uint64_t key) {
    const auto grouped = GroupRows(shape.batches, shape.slots, key, kinds);
    std::vector<int> pictures;
    for (size_t b = 0; b < 16; ++b) {
      const auto first = grouped.begin() + static_cast<std::ptrdiff_t>(b * 8);
      pictures.push_back(static_cast<int>(std::count_if(first, first + 8, [&](int32_t place) {
        return kinds[static_cast<size_t>(place)] == 1;
      })));
    }
    return pictures;
  };
  std::set<std::vector<int>> patterns;
  for (uint64_t key = 0; key < 20; ++key) patterns.insert(pattern(key));
  EXPECT_GT(patterns.size(), 15u);
}

TEST(BatchGrouper, PermutesTheRowsOfABucketAndNothingElse) {
  const testing::TempDir dir;
  PictureMix world(dir.path());
  const GroupedRows data(&world);
  // Whole buckets of 10 batches; the third ends early, where the weights change.
  const std::vector<std::pair<int64_t, int64_t>> buckets = {{0, 10}, {10, 20}, {20, 24}, {24, 34}};
  int64_t pure = 0;
  for (const auto& [first, end] : buckets) {
    std::vector<int64_t> wanted;
    std::vector<int64_t> got;
    int64_t mixed = 0;
    for (int64_t step = first; step < end; ++step) {
      const auto bucket = data.grouper->BucketOf(step);
      ASSERT_EQ(bucket.first, first) << step;
      ASSERT_EQ(bucket.end, end) << step;
      for (const int64_t id : data.Ids(step, false)) wanted.push_back(id);
      const auto ids = data.Ids(step, true);
      const auto pictures =
          std::count_if(ids.begin(), ids.end(), [&](int64_t id) { return world.HasPicture(id); });
      mixed += pictures != 0 && pictures != PictureMix::kBatch ? 1 : 0;
      got.insert(got.end(), ids.begin(), ids.end());
    }
    EXPECT_LE(mixed, 1) << "bucket from step " << first;
    pure += end - first - mixed;
    EXPECT_NE(got, wanted);
    std::sort(wanted.begin(), wanted.end());
    std::sort(got.begin(), got.end());
    EXPECT_EQ(got, wanted) << "bucket from step " << first;
  }
  EXPECT_GE(pure, 30);
}

TEST(BatchGrouper, EachSampleOnceAnEpoch) {
  const testing::TempDir dir;
  PictureMix world(dir.path());
  world.options().data.clear_mix();
  GroupedRows data(&world);
  // Four epochs of the smaller set, and all that was begun.
  std::map<std::pair<int, uint64_t>, std::vector<int>> seen;
  for (int64_t step = 0; step < 90; ++step) {
    for (int64_t slot = 0; slot < PictureMix::kSlots; ++slot) {
      const auto rows = data.grouper->Rows(step, slot);
      ASSERT_TRUE(rows.ok());
      for (const SampleRef& ref : *rows) {
        auto& counts = seen[{ref.set, ref.epoch}];
        counts.resize(static_cast<size_t>(data.mix->source(ref.set).num_samples()));
        ASSERT_EQ(++counts[ref.id], 1);
      }
    }
  }
  int whole = 0;
  for (const auto& [epoch, counts] : seen)
    whole += std::count(counts.begin(), counts.end(), 0) == 0 ? 1 : 0;
  EXPECT_EQ(whole, 6);
}

TEST(BatchGrouper, ASubstituteIsOfTheSameKindAndWindow) {
  const testing::TempDir dir;
  PictureMix world(dir.path());
  // Windows of 64 samples of the first set and 32 of the second: each has some of both kinds.
  world.options().data.mutable_order()->set_lanes(6);
  world.options().data.mutable_order()->set_chunk(32);
  const GroupedRows data(&world);
  for (int64_t step = 0; step < 34; step += 3) {
    for (int64_t row = 0; row < data.grouper->order().rows_per_slot(); ++row) {
      const SampleRef wanted = *data.grouper->At(step, 2, row);
      std::set<uint64_t> instead;
      for (int64_t k = 1; k <= 3; ++k) {
        const SampleRef ref = *data.grouper->At(step, 2, row, k);
        ASSERT_EQ(world.HasPicture(data.mix->Id(ref)), world.HasPicture(data.mix->Id(wanted)));
        ASSERT_EQ(std::pair(ref.set, ref.epoch), std::pair(wanted.set, wanted.epoch));
        instead.insert(ref.id);
      }
      EXPECT_EQ(instead.size(), 3u);
      EXPECT_FALSE(instead.contains(wanted.id));
    }
  }
}

TEST(BatchGrouper, OffLeavesTheOrder) {
  const testing::TempDir dir;
  PictureMix world(dir.path());
  world.options().data.clear_batcher();
  const GroupedRows data(&world);
  for (int64_t step = 0; step < 12; ++step) EXPECT_EQ(data.Ids(step, true), data.Ids(step, false));
}

// By (step, slot, micro-batch): ids and a CRC of all tensors.
using Digest = std::map<std::tuple<int64_t, int, int>, std::pair<std::vector<int64_t>, uint32_t>>;

void Read(LoaderOptions options, int64_t first_step, int64_t end_step, std::vector<int> slots,
          Digest* digest) {
  options.first_step = first_step;
  options.end_step = end_step;
  options.slots = std::move(slots);
  auto loader = Loader::Open(options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  const int64_t count = (end_step - first_step) * static_cast<int64_t>(options.slots.size()) * 2;
  for (int64_t i = 0; i < count; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    uint32_t crc = Crc32c(batch->targets.data(), batch->targets.size() * 4);
    for (const Field& field : batch->fields)
      crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
    (*digest)[{batch->step, batch->slot, batch->micro_batch}] = {batch->sample_ids, crc};
  }
}

// Grouped, dealt by balance, with bad pictures and weights that change at step 24.
TEST(BatchGrouper, StoppedAnywhereOnAnyRanksGivesTheSameBytes) {
  const testing::TempDir dir;
  PictureMix world(dir.path());
  world.options().data.mutable_balance()->set_group(4);
  world.options().data.set_loader_threads(2);
  constexpr int64_t kEnd = 36;
  Digest straight;
  Read(world.options(), 0, kEnd, {0, 1, 2, 3, 4, 5}, &straight);
  ASSERT_EQ(straight.size(), static_cast<size_t>(kEnd * PictureMix::kSlots * 2));
  for (const int64_t stop : {1, 9, 10, 13, 22, 24, 33}) {
    for (const int ranks : {1, 2, 3, 6}) {
      Digest resumed;
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<int> slots;
        for (int slot = 0; slot < PictureMix::kSlots; ++slot) {
          if (slot % ranks == rank) slots.push_back(slot);
        }
        Read(world.options(), stop, kEnd, slots, &resumed);
      }
      EXPECT_TRUE(resumed == Digest(straight.lower_bound({stop, 0, 0}), straight.end()))
          << "stopped before step " << stop << ", on " << ranks << " ranks";
    }
  }
  // What was bad came from elsewhere, of its kind: no batch but a bucket's mixed one has both.
  std::map<int64_t, int64_t> pictures;
  for (const auto& [at, micro_batch] : straight) {
    for (const int64_t id : micro_batch.first) {
      EXPECT_FALSE(world.bad().contains(id));
      pictures[std::get<0>(at)] += world.HasPicture(id) ? 1 : 0;
    }
  }
  EXPECT_LE(std::count_if(
                pictures.begin(), pictures.end(),
                [](const auto& of) { return of.second != 0 && of.second != PictureMix::kBatch; }),
            5);
}

}  // namespace
}  // namespace weft
