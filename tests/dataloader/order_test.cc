#include "dataloader/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "cluster/base/hash.h"
#include "dataloader/permutation.h"

namespace weft {
namespace {

TEST(Permutation, IsABijection) {
  for (const uint64_t n : {1, 2, 3, 5, 63, 64, 65, 1000, 4097}) {
    std::vector<bool> seen(n);
    const Permutation permutation(n, 12345 + n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t j = permutation(i);
      ASSERT_LT(j, n);
      EXPECT_FALSE(seen[j]) << n;
      seen[j] = true;
      EXPECT_EQ(permutation.Inverse(j), i);
    }
  }
}

// Each value is as likely at each place, and the step from place 0 to place 1 too, which few rounds get wrong.
TEST(Permutation, IsUniformOverKeys) {
  for (const uint64_t n : {5, 16, 64}) {
    const int keys = 40000;
    std::vector<double> first(n);
    std::vector<double> step(n);
    for (int key = 0; key < keys; ++key) {
      const Permutation permutation(n, Mix64(static_cast<uint64_t>(key)));
      ++first[permutation(0)];
      ++step[(permutation(1) + n - permutation(0)) % n];
    }
    const auto chi_squared = [](const std::vector<double>& counts, size_t begin, double expected) {
      double sum = 0;
      for (size_t i = begin; i < counts.size(); ++i)
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
      const auto freedom = static_cast<double>(counts.size() - begin) - 1;
      return (sum - freedom) / std::sqrt(2 * freedom);
    };
    EXPECT_LT(chi_squared(first, 0, keys / static_cast<double>(n)), 4) << n;
    EXPECT_EQ(step[0], 0);
    EXPECT_LT(chi_squared(step, 1, keys / static_cast<double>(n - 1)), 4) << n;
  }
}

TEST(ChunkLayout, ToCanonicalIsTheInverse) {
  const ChunkLayout layout({5, 0, 3, 4, 1, 9}, 2);
  for (uint64_t i = 0; i < layout.num_samples(); ++i)
    EXPECT_EQ(layout.ToCanonical(layout.ToSequential(i)), i);
}

// Against all rows: nothing of the chunk comes before, and the first of it within a window.
TEST(SampleOrder, NextNeedSaysWhenAChunkComes) {
  OrderOptions options;
  options.seed = 3;
  options.slots = 4;
  options.global_batch = 16;
  options.lanes = 8;
  options.chunk = 5;
  options.window = 3;
  const auto order = SampleOrder::Create(options, {{"train", {203, 61, 8, 400}}});
  ASSERT_TRUE(order.ok());
  const ChunkLayout layout({203, 61, 8, 400}, 5);
  const int64_t steps = 42 * 4;  // four epochs of 672 = 42 x 16
  for (const std::vector<bool>& of_slot :
       {std::vector<bool>(4, true), std::vector<bool>{false, true, false, false}}) {
    // Steps by chunk.
    std::map<uint64_t, std::vector<int64_t>> uses;
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        if (!of_slot[static_cast<size_t>(slot)]) continue;
        for (const SampleRef& ref : order->Rows(step, slot))
          uses[layout.ToCanonical(ref.id) / 5].push_back(step);
      }
    }
    int64_t ahead = 0;
    int64_t close = 0;
    for (const auto& [chunk, at] : uses) {
      for (int64_t step = 0; step < 60; ++step) {
        const auto next = std::lower_bound(at.begin(), at.end(), step);
        if (next == at.end()) continue;
        const int64_t said = order->NextNeed(0, layout.ToSequential(chunk * 5), step, of_slot);
        ASSERT_LE(said, *next) << "chunk " << chunk << " at " << step;
        if (said == step) continue;  // in its window, or in the tail
        ++ahead;
        close += *next <= said + order->steps_per_window() ? 1 : 0;
      }
    }
    EXPECT_GT(ahead, 1000);
    // In the tail of an epoch, where a chunk may come to any slot, it need not come to this one.
    EXPECT_GE(static_cast<double>(close),
              of_slot[0] ? static_cast<double>(ahead) : 0.9 * static_cast<double>(ahead));
  }
}

TEST(ChunkLayout, FullChunksFirstThenLeftovers) {
  const ChunkLayout layout({5, 0, 3, 4}, 2);
  EXPECT_EQ(layout.num_samples(), 12u);
  EXPECT_EQ(layout.num_chunks(), 6u);
  std::vector<uint64_t> ids;
  for (uint64_t i = 0; i < 12; ++i) ids.push_back(layout.ToSequential(i));
  // Shard 0 holds 0..4, shard 2 5..7, shard 3 8..11; leftovers are 4 and 7.
  EXPECT_EQ(ids, (std::vector<uint64_t>{0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 4, 7}));
}

TEST(DefaultLanes, FollowsTheRule) {
  EXPECT_EQ(DefaultLanes(2, 256, 16), 64);
  EXPECT_EQ(DefaultLanes(8, 4096, 16), 256);
  EXPECT_EQ(DefaultLanes(64, 4096, 16), 256);
  EXPECT_EQ(DefaultLanes(32, 2880, 16), 192);   // 15 rows a lane
  EXPECT_EQ(DefaultLanes(1, 8, 16), 8);         // fewer than 64 rows: all that divide
  EXPECT_EQ(DefaultLanes(1, 32768, 16), 1024);  // 32 rows a lane: the largest allowed
}

struct Case {
  std::vector<uint64_t> shards;
  int64_t slots;
  int64_t batch;
  int64_t lanes;
  int64_t chunk;
  int64_t window;
};

SampleOrder MakeOrder(const Case& c, uint64_t seed = 7) {
  auto order = SampleOrder::Create({seed, c.slots, c.batch, c.lanes, c.chunk, c.window},
                                   {{"train", c.shards}});
  EXPECT_TRUE(order.ok()) << order.status();
  return std::move(*order);
}

std::vector<uint64_t> Shards(uint64_t total, uint64_t each) {
  std::vector<uint64_t> shards;
  for (; total > each; total -= each) shards.push_back(each);
  shards.push_back(total);
  return shards;
}

TEST(SampleOrder, EachSampleExactlyOnceAnEpoch) {
  const std::vector<Case> cases = {
      {{1}, 1, 1, 1, 128, 16},
      {{1}, 2, 8, 4, 1, 1},
      {{5, 2}, 1, 4, 4, 2, 2},
      {Shards(1000, 77), 2, 48, 48, 4, 3},
      {Shards(1000, 1000), 1, 64, 64, 16, 16},
      {Shards(5003, 311), 4, 64, 16, 8, 5},
      {Shards(5003, 311), 4, 64, 64, 1, 16},
      {Shards(20011, 997), 2, 240, 240, 8, 4},
      {Shards(20000, 1000), 1, 32, 1, 128, 16},
      {Shards(16384, 1024), 8, 128, 64, 32, 2},
  };
  for (const Case& c : cases) {
    const SampleOrder order = MakeOrder(c);
    uint64_t total = 0;
    for (const uint64_t n : c.shards) total += n;
    std::map<uint64_t, std::vector<int>> seen;  // by epoch
    const int64_t steps = static_cast<int64_t>(4 * total) / c.batch + 2;
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t slot = 0; slot < c.slots; ++slot) {
        for (int64_t row = 0; row < order.rows_per_slot(); ++row) {
          const SampleRef ref = order.At(step, slot, row);
          ASSERT_LT(ref.id, total);
          auto& counts = seen[ref.epoch];
          counts.resize(total);
          ++counts[ref.id];
        }
      }
    }
    for (uint64_t epoch = 0; epoch < 3; ++epoch) {
      const auto [low, high] = std::minmax_element(seen[epoch].begin(), seen[epoch].end());
      EXPECT_EQ(*low, 1) << "epoch " << epoch << " of " << total << " samples, " << c.lanes
                         << " lanes";
      EXPECT_EQ(*high, 1) << "epoch " << epoch << " of " << total << " samples, " << c.lanes
                          << " lanes";
    }
    for (const int count : seen[3]) EXPECT_LE(count, 1);
  }
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  const Case c{Shards(4096, 512), 1, 64, 64, 8, 4};
  const auto epoch_of = [&](uint64_t seed, int64_t epoch) {
    const SampleOrder order = MakeOrder(c, seed);
    std::vector<uint64_t> ids;
    for (int64_t step = epoch * 64; step < (epoch + 1) * 64; ++step) {
      for (int64_t row = 0; row < 64; ++row) ids.push_back(order.At(step, 0, row).id);
    }
    return ids;
  };
  EXPECT_EQ(epoch_of(1, 0), epoch_of(1, 0));
  // A random order agrees with another one at about one place.
  const auto same_places = [](const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
    int same = 0;
    for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
    return same;
  };
  EXPECT_LT(same_places(epoch_of(1, 0), epoch_of(1, 1)), 12);
  EXPECT_LT(same_places(epoch_of(1, 0), epoch_of(2, 0)), 12);
  EXPECT_LT(same_places(epoch_of(1, 1), epoch_of(2, 0)), 12);  // no seed + epoch
}

// Main chunks stay whole and in one lane, so that one reader fetches each once; in later epochs too,
// which begin in the middle of the lanes.
TEST(SampleOrder, ALaneReadsWholeChunks) {
  const Case c{Shards(20005, 1000), 1, 16, 16, 20, 4};
  const SampleOrder order = MakeOrder(c);
  std::map<uint64_t, std::map<uint64_t, std::set<int64_t>>> lanes_of_chunk;  // by epoch
  for (int64_t step = 0; step < 3 * 20005 / 16; ++step) {
    for (int64_t lane = 0; lane < 16; ++lane) {
      const SampleRef ref = order.At(step, 0, lane);
      lanes_of_chunk[ref.epoch][ref.id / 20].insert(lane);
    }
  }
  for (uint64_t epoch = 0; epoch < 2; ++epoch) {
    int whole = 0;
    for (const auto& [chunk, lanes] : lanes_of_chunk[epoch]) whole += lanes.size() == 1;
    EXPECT_GE(whole, (20005 - 15) / (16 * 20) * 16) << epoch;
  }
}

// Neighbours in a lane come from different chunks while the window has as many.
TEST(SampleOrder, RoundRobinInsideAWindow) {
  const Case c{Shards(16384 + 7, 2048), 1, 64, 8, 16, 8};
  const SampleOrder order = MakeOrder(c);
  for (int64_t step = 0; step < 10; ++step) {
    for (int64_t lane = 0; lane < 8; ++lane) {
      std::set<uint64_t> chunks;
      for (int64_t i = 0; i < 8; ++i) chunks.insert(order.At(step, 0, lane * 8 + i).id / 16);
      EXPECT_EQ(chunks.size(), 8u);
    }
  }
}

// A rank that owns two slots sees what two ranks with one slot each see; the number of slots changes only who gets a row.
TEST(SampleOrder, RowsOfABatchDoNotDependOnTheSlotCount) {
  const std::vector<uint64_t> shards = Shards(9000, 700);
  const auto batch_of = [&](int64_t slots, int64_t step) {
    const SampleOrder order = MakeOrder({shards, slots, 128, 64, 8, 4});
    std::vector<uint64_t> ids;
    for (int64_t slot = 0; slot < slots; ++slot) {
      for (int64_t row = 0; row < 128 / slots; ++row) ids.push_back(order.At(step, slot, row).id);
    }
    return ids;
  };
  for (const int64_t step : {0, 3, 69, 70, 71, 500}) {
    EXPECT_EQ(batch_of(1, step), batch_of(2, step));
    EXPECT_EQ(batch_of(1, step), batch_of(8, step));
  }
}

TEST(SampleOrder, SubstitutesComeFromTheSameWindowAndEpoch) {
  const Case c{Shards(64 * 16 * 20 + 15, 1000), 1, 16, 16, 20, 4};
  const SampleOrder order = MakeOrder(c);
  std::set<uint64_t> window_chunks;
  for (int64_t i = 0; i < 80; ++i) window_chunks.insert(order.At(i, 0, 3).id / 20);
  for (int64_t k = 1; k <= 16; ++k) {
    const SampleRef substitute = order.At(70, 0, 3, k);
    EXPECT_TRUE(window_chunks.count(substitute.id / 20)) << k;
    EXPECT_EQ(substitute.epoch, 0u);
    // The entry k places on; past the window's end it starts again.
    EXPECT_EQ(substitute, order.At((70 + k) % 80, 0, 3));
  }
}

// A run resumes under a newer build: the order never changes.
TEST(SampleOrder, IsAlwaysTheSame) {
  const SampleOrder order = MakeOrder({Shards(20005, 970), 2, 96, 48, 20, 4}, 3);
  uint64_t hash = 0;
  for (int64_t step = 0; step < 3 * 20005 / 96; ++step) {
    for (int64_t row = 0; row < 96; ++row)
      hash = HashCombine(hash, order.At(step, row / 48, row % 48).id);
  }
  EXPECT_EQ(hash, 0xbeddbdc02325c464u);
}

TEST(SampleOrder, RefusesWhatDoesNotDivide) {
  const std::vector<OrderedSet> sets = {{"train", {100}}};
  EXPECT_NE(SampleOrder::Create({1, 3, 16}, sets).status().message().find("batch.slots"),
            std::string::npos);
  EXPECT_NE(SampleOrder::Create({1, 2, 16, 3}, sets).status().message().find("data.order.lanes"),
            std::string::npos);
  EXPECT_NE(SampleOrder::Create({1, 2, 16, 0, 0}, sets).status().message().find("chunk"),
            std::string::npos);
  EXPECT_NE(SampleOrder::Create({1, 2, 16, 0, 8, 0}, sets).status().message().find("window"),
            std::string::npos);
}

}  // namespace
}  // namespace weft
