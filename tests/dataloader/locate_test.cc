// The fast ways to find a sample give what the plain ways give.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cluster/base/hash.h"
#include "dataloader/order.h"
#include "dataloader/paged_file.h"
#include "dataloader/permutation.h"
#include "dataloader/range_finder.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

TEST(RangeFinder, FindsWhatABinarySearchFinds) {
  for (const std::vector<uint64_t>& sizes : {std::vector<uint64_t>{7},
                                             {0, 0, 3, 0, 1, 0},
                                             {1, 1, 1, 1, 1000, 0, 1, 50, 50},
                                             std::vector<uint64_t>(300, 97),
                                             {1'000'000'000'000, 1, 1'000'000'000'000}}) {
    std::vector<uint64_t> starts{0};
    for (const uint64_t size : sizes) starts.push_back(starts.back() + size);
    const RangeFinder finder(starts);
    const uint64_t total = starts.back();
    for (uint64_t position = 0; position < total; position += 1 + total / 5000) {
      const auto after = std::upper_bound(starts.begin(), starts.end(), position);
      ASSERT_EQ(finder.Find(position), static_cast<size_t>(after - starts.begin()) - 1) << position;
    }
    EXPECT_EQ(finder.Find(total - 1),
              static_cast<size_t>(std::lower_bound(starts.begin(), starts.end(), total) -
                                  starts.begin()) -
                  1);
  }
}

TEST(Permutation, TableHasTheSameValues) {
  for (const uint64_t n : {1, 2, 16, 63, 64, 65, 1000}) {
    const Permutation permutation(n, 99 + n);
    std::vector<uint64_t> table;
    permutation.FillTable(&table);
    ASSERT_EQ(table.size(), n);
    for (uint64_t i = 0; i < n; ++i) EXPECT_EQ(table[i], permutation(i)) << n;
  }
}

TEST(SampleOrder, RowsAreAtForEachRow) {
  OrderOptions options;
  options.seed = 3;
  options.slots = 4;
  options.global_batch = 48;
  options.lanes = 8;
  options.chunk = 4;
  options.window = 3;
  const auto order = SampleOrder::Create(options, {{"a", {501, 90, 7}}});
  ASSERT_TRUE(order.ok()) << order.status();
  for (int64_t step = 0; step < 40; ++step) {
    for (int64_t slot = 0; slot < 4; ++slot) {
      const std::vector<SampleRef> rows = order->Rows(step, slot);
      ASSERT_EQ(rows.size(), 12U);
      for (size_t row = 0; row < rows.size(); ++row)
        EXPECT_EQ(rows[row], order->At(step, slot, static_cast<int64_t>(row)));
    }
  }
}

// More pages than the cache holds, in any order.
TEST(PagedFile, GivesTheFilesBytes) {
  testing::TempDir dir;
  const uint64_t pages = PagedFile::kMaxHeld + 5000;
  std::string bytes(pages * PagedFile::kPage - 100, '\0');
  for (uint64_t at = 0; at + 8 <= bytes.size(); at += 512) {
    const uint64_t value = Mix64(at);
    std::memcpy(&bytes[at], &value, 8);
  }
  WriteBytes(dir / "f", bytes);
  const auto file = PagedFile::Open(dir / "f");
  ASSERT_TRUE(file.ok()) << file.status();
  for (uint64_t round = 0; round < 100'000; ++round) {
    // Half of the reads go to few pages.
    const uint64_t draw = Mix64(round);
    const uint64_t page = draw % (round % 2 == 0 ? pages - 1 : 300);
    const uint64_t at = page * PagedFile::kPage + draw / 7 % 8 * 512;
    uint64_t value = 0;
    ASSERT_TRUE((*file)->ReadAt(at, 8, &value).ok());
    ASSERT_EQ(value, Mix64(at));
  }
  char last[4];
  EXPECT_TRUE((*file)->ReadAt(bytes.size() - 4, 4, last).ok());
  EXPECT_FALSE((*file)->ReadAt(bytes.size() - 3, 4, last).ok());
}

}  // namespace
}  // namespace weft
