#include "dataloader/best_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cluster/base/philox.h"
#include "tests/support/report.h"

namespace weft {
namespace {

using Rows = std::vector<std::vector<int32_t>>;

TEST(PackBestFit, TakesTheLongestFirstAndTheTightestRow) {
  // 7 and 6 begin rows; 3 fits best behind the 7; then 2 and 2 behind the 6; the last 1 opens a third one.
  const std::vector<RowNeeds> items = {{2}, {7}, {3}, {6}, {2}, {1}};
  EXPECT_EQ(PackBestFit(items, 10, 1), (Rows{{1, 2}, {0, 3, 4}, {5}}));
  EXPECT_EQ(PackBestFit({}, 10, 1), Rows{});
}

TEST(PackBestFit, KeepsToTheNumberOfPictures) {
  const std::vector<RowNeeds> items = {{4, true}, {3, true}, {2, true}, {1, false}};
  EXPECT_EQ(PackBestFit(items, 10, 3), (Rows{{0, 1, 2, 3}}));
  EXPECT_EQ(PackBestFit(items, 10, 2), (Rows{{0, 1, 3}, {2}}));
  EXPECT_EQ(PackBestFit(items, 10, 1), (Rows{{0, 3}, {1}, {2}}));
}

// Conversations as LLaVA's mixture has them: most with 576 patches and a log-normal number of words, some of text only.
std::vector<RowNeeds> LlavaLike(int64_t count) {
  const KeyedRandom random(1, "lengths", 0);
  std::vector<RowNeeds> items;
  for (int64_t i = 0; i < count; ++i) {
    const bool picture = random.Below(100, static_cast<uint64_t>(i), 1) >= 6;
    const double words = std::exp(5 + 0.9 * random.Normal(static_cast<uint64_t>(i), 0));
    const auto tokens = static_cast<int32_t>(std::clamp(words, 8.0, 2048.0 - 576));
    items.push_back({tokens + (picture ? 576 : 0), picture});
  }
  return items;
}

// Tokens of all that the rows hold.
double Fill(const std::vector<RowNeeds>& items, int32_t room, size_t group) {
  int64_t tokens = 0;
  int64_t rows = 0;
  for (size_t first = 0; first < items.size(); first += group) {
    const std::span<const RowNeeds> some(items.data() + first,
                                         std::min(group, items.size() - first));
    for (const RowNeeds& item : some) tokens += item.tokens;
    rows += static_cast<int64_t>(PackBestFit(some, room, room / 578).size());
  }
  return static_cast<double>(tokens) / static_cast<double>(rows * room);
}

TEST(PackBestFit, FillsRowsOfLlavaLikeLengths) {
  const std::vector<RowNeeds> items = LlavaLike(testing::WantsReports() ? 65536 : 8192);
  nlohmann::ordered_json figures = nlohmann::ordered_json::array();
  for (const int32_t room : {2048, 4096}) {
    for (const size_t group : {128, 512, 2048}) {
      const double fill = Fill(items, room, group);
      figures.push_back({{"row_tokens", room}, {"group", group}, {"fill", fill}});
      EXPECT_GT(fill, room == 2048 ? 0.8 : 0.9) << room << " " << group;
      EXPECT_LE(fill, 1) << room << " " << group;
    }
    // One conversation a row, as without packing.
    figures.push_back({{"row_tokens", room}, {"group", 1}, {"fill", Fill(items, room, 1)}});
  }
  testing::WriteReport("loader-fill", figures);
}

}  // namespace
}  // namespace weft
