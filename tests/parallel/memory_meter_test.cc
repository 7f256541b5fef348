// Counted by rank and by category; the peaks; blocks that outlive their meter.
#include "parallel/memory/memory_meter.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/memory/metered_allocator.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

at::Tensor Bytes(int64_t count) { return at::empty({count}, at::kByte); }

class MemoryMeterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { InstallMeteredAllocator(); }

  int64_t Live(MemoryCategory category) const { return meter_.Report().Of(category).live; }
  int64_t Peak(MemoryCategory category) const { return meter_.Report().Of(category).peak; }

  MemoryMeter meter_;
};

TEST_F(MemoryMeterTest, CountsTheInnermostScopeAndKeepsPeaks) {
  const MeterThread attached(&meter_);
  const at::Tensor other = Bytes(10);
  const MemoryScope outer(MemoryCategory::kActivations);
  at::Tensor first = Bytes(1000);
  {
    const MemoryScope inner(MemoryCategory::kGradients);
    const at::Tensor gradient = Bytes(300);
    EXPECT_EQ(Live(MemoryCategory::kGradients), 300);
  }
  at::Tensor second = Bytes(500);
  first.reset();
  EXPECT_EQ(Live(MemoryCategory::kActivations), 500);
  EXPECT_EQ(Peak(MemoryCategory::kActivations), 1500);
  EXPECT_EQ(Live(MemoryCategory::kGradients), 0);
  EXPECT_EQ(Peak(MemoryCategory::kGradients), 300);
  EXPECT_EQ(Live(MemoryCategory::kOther), 10);
  EXPECT_EQ(meter_.Report().total.live, 510);
  // Not 1500 + 300 + 10: they were not there at once.
  EXPECT_EQ(meter_.Report().total.peak, 1510);
  meter_.ResetPeaks();
  EXPECT_EQ(Peak(MemoryCategory::kActivations), 500);
  EXPECT_EQ(meter_.Report().total.peak, 510);
}

TEST_F(MemoryMeterTest, RanksAsThreadsAreToldApart) {
  std::vector<std::unique_ptr<MemoryMeter>> meters;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) meters.push_back(std::make_unique<MemoryMeter>());
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      const MeterThread attached(meters[static_cast<size_t>(rank)].get());
      const MemoryScope scope(MemoryCategory::kParameters);
      for (int i = 0; i < 100; ++i) Bytes(1000 * (rank + 1));
    });
  }
  for (std::thread& rank : ranks) rank.join();
  Bytes(1 << 20);  // of a thread without a meter
  for (int rank = 0; rank < 4; ++rank) {
    const MemoryReport report = meters[static_cast<size_t>(rank)]->Report();
    EXPECT_EQ(report.Of(MemoryCategory::kParameters).peak, 1000 * (rank + 1));
    EXPECT_EQ(report.total.live, 0);
  }
}

// A block goes back to the category and the meter that it came from, whoever frees it and whenever.
TEST_F(MemoryMeterTest, BlocksAreFreedByOtherThreadsAndOutliveTheirMeter) {
  auto meter = std::make_unique<MemoryMeter>();
  at::Tensor kept;
  at::Tensor passed;
  {
    const MeterThread attached(meter.get());
    const MemoryScope scope(MemoryCategory::kOptimizer);
    kept = Bytes(100);
    passed = Bytes(50);
  }
  std::thread([&] {
    const MeterThread attached(&meter_);
    passed.reset();
  }).join();
  EXPECT_EQ(meter->Report().Of(MemoryCategory::kOptimizer).live, 100);
  EXPECT_EQ(meter_.Report().total.live, 0);
  meter.reset();
  kept.fill_(1);
  kept.reset();
}

TEST_F(MemoryMeterTest, TensorsStayAlignedAndMayBeEmptyOrGrow) {
  const MeterThread attached(&meter_);
  for (const int64_t bytes : {int64_t{1}, int64_t{64}, int64_t{1} << 20, int64_t{8} << 20}) {
    const at::Tensor tensor = Bytes(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 64, 0u) << bytes;
    std::memset(tensor.data_ptr(), 1, static_cast<size_t>(bytes));
  }
  at::Tensor tensor = Bytes(0);
  EXPECT_EQ(meter_.Report().total.live, 0);
  tensor.resize_({4096});
  EXPECT_EQ(meter_.Report().total.live, 4096);
  const at::Tensor sum = at::add(tensor.fill_(1), tensor);
  EXPECT_EQ(sum[4095].item<int>(), 2);
}

TEST_F(MemoryMeterTest, TheTableHasALineACategory) {
  const MeterThread attached(&meter_);
  const MemoryScope scope(MemoryCategory::kActivations);
  { const at::Tensor tensor = Bytes(3 << 20); }
  const at::Tensor tensor = Bytes(1 << 20);
  const std::string table = meter_.Report().Table();
  EXPECT_THAT(table, HasSubstr("memory               peak         live\n"));
  EXPECT_THAT(table, HasSubstr("activations       3.0 MiB      1.0 MiB\n"));
  EXPECT_THAT(table, HasSubstr("total             3.0 MiB      1.0 MiB\n"));
}

}  // namespace
}  // namespace weft
