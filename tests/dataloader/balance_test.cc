#include "dataloader/balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "cluster/base/philox.h"
#include "tests/support/report.h"

namespace weft {
namespace {

using testing::WriteReport;

// Lengths like those of answers about pictures: 576 patches and a log-normal number of words.
std::vector<int64_t> Costs(size_t rows, uint64_t step, double spread, double attention) {
  const KeyedRandom random(5, "lengths", step);
  std::vector<int64_t> costs;
  for (size_t i = 0; i < rows; ++i)
    costs.push_back(
        RowCost(576 + std::llround(std::exp(5 + spread * random.Normal(i, 0))), attention));
  return costs;
}

int64_t Sum(const std::vector<int64_t>& costs, const std::vector<int32_t>& dealt, size_t begin,
            size_t end) {
  int64_t sum = 0;
  for (size_t i = begin; i < end; ++i) sum += costs[static_cast<size_t>(dealt[i])];
  return sum;
}

TEST(Balance, RowCostCountsAttention) {
  EXPECT_EQ(RowCost(0, 0), 1);
  EXPECT_EQ(RowCost(100, 0), 100);
  EXPECT_EQ(RowCost(100, 0.01), 200);
}

TEST(Balance, OffLeavesTheOrder) {
  const std::vector<int64_t> costs = {5, 1, 1, 1};
  EXPECT_EQ(BalanceRows({.slots = 2}, costs), (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(Balance, DealsEachRowOnceAndMovesFew) {
  for (const int64_t slots : {1, 6, 16, 20}) {
    for (const int64_t group : {2, 8, 100}) {
      const size_t rows = static_cast<size_t>(slots) * 12;
      const auto costs = Costs(rows, 1, 1, 1e-3);
      const BalanceOptions options = {slots, 3, group, 0.02};
      const auto dealt = BalanceRows(options, costs);
      EXPECT_EQ(dealt, BalanceRows(options, costs));
      std::vector<int> seen(rows);
      int64_t moved = 0;
      for (size_t i = 0; i < rows; ++i) {
        ++seen.at(static_cast<size_t>(dealt[i]));
        moved += static_cast<int64_t>(i) / 12 / group != dealt[i] / 12 / group;
      }
      EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<int64_t>(rows));
      EXPECT_LE(static_cast<double>(moved), 0.02 * static_cast<double>(rows));
    }
  }
}

// Tokens of a row: pictures with answers, captions, both with text-only rows between them, anything.
std::vector<std::pair<std::string, std::function<double(double normal, double uniform)>>>
Lengths() {
  const auto words = [](double mean, double spread, double normal) {
    return std::exp(mean + spread * normal);
  };
  return {{"answers", [=](double n, double) { return std::min(2048.0, 576 + words(5, 1, n)); }},
          {"captions", [=](double n, double) { return std::min(512.0, words(4, 0.8, n)); }},
          {"mixed",
           [=](double n, double u) {
             return std::min(2048.0, u < 0.4 ? words(5.5, 1, n) : 576 + words(4.5, 1, n));
           }},
          {"uniform", [](double, double u) { return 1 + 2047 * u; }}};
}

struct Load {
  // Heaviest slot / max(mean slot, heaviest sample), with and without the deal.
  double balanced = 0;
  double given = 0;
  double moved = 0;
};

Load Measure(size_t slots, const std::vector<int64_t>& costs) {
  constexpr size_t kPerSlot = 16;
  constexpr size_t kGroup = 8;
  const auto dealt = BalanceRows({static_cast<int64_t>(slots), 2, kGroup, 0.02}, costs);
  std::vector<int32_t> given(costs.size());
  std::iota(given.begin(), given.end(), 0);
  int64_t heaviest = 0;
  int64_t heaviest_given = 0;
  int64_t moved = 0;
  for (size_t slot = 0; slot < slots; ++slot) {
    heaviest = std::max(heaviest, Sum(costs, dealt, slot * kPerSlot, (slot + 1) * kPerSlot));
    heaviest_given =
        std::max(heaviest_given, Sum(costs, given, slot * kPerSlot, (slot + 1) * kPerSlot));
    for (size_t row = slot * kPerSlot; row < (slot + 1) * kPerSlot; ++row)
      moved += static_cast<size_t>(dealt[row]) / kPerSlot / kGroup != slot / kGroup;
  }
  const double mean = static_cast<double>(std::accumulate(costs.begin(), costs.end(), int64_t{0})) /
                      static_cast<double>(slots);
  const double bound =
      std::max(mean, static_cast<double>(*std::max_element(costs.begin(), costs.end())));
  return {static_cast<double>(heaviest) / bound, static_cast<double>(heaviest_given) / bound,
          static_cast<double>(moved) / static_cast<double>(costs.size())};
}

// B / V = 16, groups of 8 slots. `make bench-loader` writes loader-balance.json.
TEST(Balance, NoSlotHasMuchMoreThanTheMean) {
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  for (const auto& [name, length] : Lengths()) {
    for (const size_t slots : {8, 16, 24, 64, 256}) {
      const KeyedRandom random(5, name, slots);
      std::vector<double> balanced;
      std::vector<double> given;
      double moved = 0;
      for (uint64_t step = 0; step < 100; ++step) {
        std::vector<int64_t> costs;
        for (size_t i = 0; i < slots * 16; ++i) {
          const double tokens = length(random.Normal(step, 2 * i), random.Uniform(step, 2 * i + 1));
          costs.push_back(RowCost(std::llround(tokens), 1.0 / 6144));
        }
        const Load load = Measure(slots, costs);
        balanced.push_back(load.balanced);
        given.push_back(load.given);
        moved = std::max(moved, load.moved);
      }
      std::sort(balanced.begin(), balanced.end());
      std::sort(given.begin(), given.end());
      EXPECT_LE(balanced[95], 1.07) << name << ", " << slots << " slots";
      EXPECT_GT(given[95], 1.2) << name << ": these lengths need no balance";
      EXPECT_LE(moved, 0.02) << name << ", " << slots << " slots";
      report.push_back({{"lengths", name},
                        {"slots", slots},
                        {"p95_of_heaviest_slot", balanced[95]},
                        {"p95_without_balance", given[95]},
                        {"least_share_that_stays_on_its_node", 1 - moved}});
    }
  }
  WriteReport("loader-balance", report);
}

// Two micro-batches of a slot: as even as its rows allow.
TEST(Balance, EvensMicroBatches) {
  const std::vector<int64_t> costs = {9, 8, 1, 2, 7, 3, 6, 4};
  const auto dealt = BalanceRows({.slots = 1, .micro_batches = 2, .group = 2}, costs);
  EXPECT_EQ(Sum(costs, dealt, 0, 4), 20);
  EXPECT_EQ(Sum(costs, dealt, 4, 8), 20);
  EXPECT_TRUE(std::is_sorted(dealt.begin(), dealt.begin() + 4));
}

}  // namespace
}  // namespace weft
