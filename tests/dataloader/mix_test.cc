#include "dataloader/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "dataloader/order.h"
#include "dataloader/sample_mix.h"

namespace weft {
namespace {

TEST(Interleave, CountsAreWhatWhichSays) {
  for (const std::vector<uint64_t>& weights :
       std::vector<std::vector<uint64_t>>{{1},
                                          {1, 1},
                                          {3, 1},
                                          {1, 0, 5},
                                          {0, 7, 0},
                                          {9, 5, 3, 2, 1, 1, 1},
                                          {1000000007, 3, 998244353}}) {
    const Interleave interleave(weights);
    const auto sum = static_cast<double>(std::accumulate(weights.begin(), weights.end(), 0.0));
    std::vector<uint64_t> counts(weights.size());
    for (uint64_t x = 0; x < 2000; ++x) {
      for (size_t d = 0; d < weights.size(); ++d) {
        ASSERT_EQ(interleave.CountBefore(static_cast<int>(d), x), counts[d]) << d << " " << x;
        const double share = static_cast<double>(x) * static_cast<double>(weights[d]) / sum;
        ASSERT_NEAR(static_cast<double>(counts[d]), share, static_cast<double>(d) + 1) << x;
      }
      ++counts[static_cast<size_t>(interleave.Which(x))];
    }
  }
}

TEST(Interleave, FindsFarPlaces) {
  const Interleave interleave({3000000000000000000, 1000000000000000000, 7});
  const uint64_t x = uint64_t{1} << 60;
  uint64_t sum = 0;
  for (int d = 0; d < 3; ++d) sum += interleave.CountBefore(d, x);
  EXPECT_EQ(sum, x);
  EXPECT_NEAR(static_cast<double>(interleave.CountBefore(0, x)), 0.75 * std::exp2(60), 1e6);
}

constexpr int64_t kSlots = 6;
constexpr int64_t kBatch = 96;
constexpr int64_t kLanes = 24;

DataRecipe Recipe(const std::vector<int64_t>& weights) {
  DataRecipe data;
  for (size_t i = 0; i < weights.size(); ++i) {
    DataSetRecipe* set = data.add_sets();
    set->set_name("set-" + std::to_string(i));
    set->set_weight(weights[i]);
  }
  data.mutable_order()->set_lanes(kLanes);
  data.mutable_order()->set_chunk(8);
  data.mutable_order()->set_window(4);
  return data;
}

BatchRecipe Batch() {
  BatchRecipe batch;
  batch.set_slots(kSlots);
  batch.set_micro_batches(2);
  batch.set_micro_batch_size(kBatch / kSlots / 2);
  return batch;
}

std::vector<OrderedSet> Sets(const DataRecipe& data, const std::vector<uint64_t>& sizes) {
  std::vector<OrderedSet> sets;
  for (int i = 0; i < data.sets_size(); ++i) {
    const uint64_t n = sizes[static_cast<size_t>(i)];
    sets.push_back({data.sets(i).name(), {n / 3, n - n / 3}});
  }
  return sets;
}

SampleOrder MakeMix(const DataRecipe& data, const std::vector<uint64_t>& sizes) {
  auto order = MakeOrder(data, Batch(), 7, Sets(data, sizes));
  EXPECT_TRUE(order.ok()) << order.status();
  return std::move(*order);
}

std::vector<SampleRef> BatchOf(const SampleOrder& order, int64_t step) {
  std::vector<SampleRef> refs;
  for (int64_t slot = 0; slot < kSlots; ++slot) {
    for (int64_t row = 0; row < order.rows_per_slot(); ++row)
      refs.push_back(order.At(step, slot, row));
  }
  return refs;
}

// Each sample of each set at most once an epoch, and exactly once in the epochs that lie wholly within `steps`.
void ExpectExactlyOnce(const SampleOrder& order, const std::vector<uint64_t>& sizes,
                       int64_t steps) {
  std::map<std::pair<int, uint64_t>, std::vector<int>> seen;
  std::vector<uint64_t> last(sizes.size());
  for (int64_t step = 0; step < steps; ++step) {
    for (const SampleRef& ref : BatchOf(order, step)) {
      auto& counts = seen[{ref.set, ref.epoch}];
      counts.resize(sizes[static_cast<size_t>(ref.set)]);
      ++counts.at(ref.id);
      uint64_t& newest = last[static_cast<size_t>(ref.set)];
      newest = std::max(newest, ref.epoch);
    }
  }
  for (const auto& [key, counts] : seen) {
    const auto [low, high] = std::minmax_element(counts.begin(), counts.end());
    EXPECT_EQ(*high, 1) << "set " << key.first << " epoch " << key.second;
    // Lanes of a set differ by a row or two, so the last two epochs may still be open.
    if (key.second + 2 <= last[static_cast<size_t>(key.first)]) {
      EXPECT_EQ(*low, 1) << "set " << key.first << " epoch " << key.second;
    }
  }
  for (size_t d = 0; d < sizes.size(); ++d) EXPECT_GE(last[d], 2u) << "too few steps for set " << d;
}

TEST(Mix, EachSampleOfEachSetExactlyOnceAnEpoch) {
  const std::vector<uint64_t> sizes = {5400, 950, 2001};
  ExpectExactlyOnce(MakeMix(Recipe({5, 3, 2}), sizes), sizes, 500);
  DataRecipe batches = Recipe({5, 3, 2});
  batches.mutable_mix()->set_unit(MixRecipe::BATCH);
  ExpectExactlyOnce(MakeMix(batches, sizes), sizes, 500);
  DataRecipe counts = Recipe({48, 24, 24});
  counts.mutable_mix()->set_unit(MixRecipe::COUNTS);
  ExpectExactlyOnce(MakeMix(counts, sizes), sizes, 500);
}

TEST(Mix, ExactlyOnceWhenTheWeightsChange) {
  const std::vector<uint64_t> sizes = {5400, 950, 2001};
  for (const MixRecipe::Unit unit : {MixRecipe::SAMPLE, MixRecipe::BATCH, MixRecipe::COUNTS}) {
    DataRecipe data = Recipe({48, 24, 24});
    data.mutable_mix()->set_unit(unit);
    MixSegment* without = data.mutable_mix()->add_segments();
    without->set_from_step(101);
    for (const int64_t weight : {72, 0, 24}) without->add_weights(weight);
    MixSegment* later = data.mutable_mix()->add_segments();
    later->set_from_step(222);
    for (const int64_t weight : {24, 48, 24}) later->add_weights(weight);
    const SampleOrder order = MakeMix(data, sizes);
    ExpectExactlyOnce(order, sizes, 500);
    for (int64_t step = 101; step < 222; ++step) {
      for (const SampleRef& ref : BatchOf(order, step)) ASSERT_NE(ref.set, 1) << step;
    }
  }
}

TEST(Mix, BatchesAndSlotsGetTheirShare) {
  const SampleOrder order = MakeMix(Recipe({5, 3, 2}), {5400, 950, 2001});
  for (int64_t step = 0; step < 300; ++step) {
    const std::vector<SampleRef> refs = BatchOf(order, step);
    for (int d = 0; d < 3; ++d) {
      const double share = std::vector<double>{0.5, 0.3, 0.2}[static_cast<size_t>(d)];
      const auto count = [&](int64_t begin, int64_t end) {
        return static_cast<double>(std::count_if(refs.begin() + begin, refs.begin() + end,
                                                 [d](const SampleRef& r) { return r.set == d; }));
      };
      ASSERT_NEAR(count(0, kBatch), share * kBatch, 3) << step;
      for (int64_t slot = 0; slot < kSlots; ++slot)
        ASSERT_NEAR(count(slot * 16, slot * 16 + 16), share * 16, 4) << step;
    }
  }
}

TEST(Mix, ABatchIsOfOneSet) {
  DataRecipe data = Recipe({5, 3, 2});
  data.mutable_mix()->set_unit(MixRecipe::BATCH);
  const SampleOrder order = MakeMix(data, {5400, 950, 2001});
  std::vector<int> batches(3);
  for (int64_t step = 0; step < 100; ++step) {
    std::set<int> sets;
    for (const SampleRef& ref : BatchOf(order, step)) sets.insert(ref.set);
    ASSERT_EQ(sets.size(), 1u) << step;
    ++batches[static_cast<size_t>(*sets.begin())];
  }
  EXPECT_EQ(batches, (std::vector<int>{50, 30, 20}));
}

// Each set runs through its own endless order, by its name: a set beside it only spreads it over other rows.
TEST(Mix, AnotherSetDoesNotReshuffle) {
  const auto stream = [](const SampleOrder& order, int set, int64_t steps) {
    std::map<uint64_t, std::set<uint64_t>> by_epoch;
    for (int64_t step = 0; step < steps; ++step) {
      for (const SampleRef& ref : BatchOf(order, step)) {
        if (ref.set == set) by_epoch[ref.epoch].insert(ref.id);
      }
    }
    return by_epoch;
  };
  // In whole multiples of the lanes, the same rows of the set have come after the same number of its samples.
  DataRecipe one = Recipe({96});
  DataRecipe two = Recipe({48, 48});
  one.mutable_mix()->set_unit(MixRecipe::COUNTS);
  two.mutable_mix()->set_unit(MixRecipe::COUNTS);
  for (const int64_t steps : {1, 5, 40})
    EXPECT_EQ(stream(MakeMix(one, {5400}), 0, steps),
              stream(MakeMix(two, {5400, 950}), 0, 2 * steps));
}

TEST(Mix, EpochsBecomeWeights) {
  DataRecipe data = Recipe({1, 1});
  for (DataSetRecipe& set : *data.mutable_sets()) set.clear_weight();
  data.mutable_sets(1)->set_epochs(3);
  const SampleOrder order = MakeMix(data, {3000, 500});  // 2 : 1
  int64_t second = 0;
  for (int64_t step = 0; step < 100; ++step) {
    for (const SampleRef& ref : BatchOf(order, step)) second += ref.set;
  }
  EXPECT_NEAR(static_cast<double>(second), 100.0 * kBatch / 3, kLanes + 2);
}

TEST(Mix, RefusesWeightsThatDoNotFit) {
  const auto refusal = [](const DataRecipe& data) {
    return MakeOrder(data, Batch(), 7, Sets(data, {5400, 950})).status().message();
  };
  DataRecipe counts = Recipe({48, 24});
  counts.mutable_mix()->set_unit(MixRecipe::COUNTS);
  EXPECT_NE(refusal(counts).find("must sum to the global batch of 96"), std::string::npos);
  counts.mutable_sets(1)->set_weight(25);
  EXPECT_NE(refusal(counts).find("25 is no multiple of data.order.lanes = 24"), std::string::npos);
  DataRecipe segment = Recipe({1, 1});
  segment.mutable_mix()->add_segments()->set_from_step(5);
  EXPECT_NE(refusal(segment).find("weights from step 5"), std::string::npos);
}

}  // namespace
}  // namespace weft
