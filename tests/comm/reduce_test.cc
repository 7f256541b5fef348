#include "cluster/comm/reduce.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "cluster/comm/ring.h"

namespace weft {
namespace {

template <typename T>
T Reduce(const std::vector<T>& values, DType dtype, ReduceOp op) {
  std::vector<const void*> sources;
  for (const T& value : values) sources.push_back(&value);
  T result{};
  ReduceElements(sources, &result, 1, dtype, op);
  return result;
}

uint16_t BFloat16Bits(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

TEST(ReduceTest, SumsInTheOrderOfTheSources) {
  // (1e8 + 1) + -1e8 is 0 in fp32; 1 + (1e8 + -1e8) would be 1.
  EXPECT_EQ(Reduce<float>({1e8f, 1.0f, -1e8f}, DType::kFloat32, ReduceOp::kSum), 0.0f);
  EXPECT_EQ(Reduce<float>({1e8f, -1e8f, 1.0f}, DType::kFloat32, ReduceOp::kSum), 1.0f);
}

TEST(ReduceTest, BFloat16IsSummedInFp32AndRoundedOnce) {
  // 256 + 1 + 1: each sum rounded by itself gives 256; rounded once, 258.
  const std::vector<uint16_t> values = {BFloat16Bits(256), BFloat16Bits(1), BFloat16Bits(1)};
  EXPECT_EQ(Reduce<uint16_t>(values, DType::kBFloat16, ReduceOp::kSum), BFloat16Bits(258));
}

TEST(ReduceTest, BFloat16RoundsHalvesToEven) {
  // Between 256 (even mantissa) and 258; between 258 (odd) and 260.
  EXPECT_EQ(
      Reduce<uint16_t>({BFloat16Bits(256), BFloat16Bits(1)}, DType::kBFloat16, ReduceOp::kSum),
      BFloat16Bits(256));
  EXPECT_EQ(
      Reduce<uint16_t>({BFloat16Bits(258), BFloat16Bits(1)}, DType::kBFloat16, ReduceOp::kSum),
      BFloat16Bits(260));
}

TEST(ReduceTest, BFloat16KeepsInfinityAndNaN) {
  const uint16_t infinity = BFloat16Bits(std::numeric_limits<float>::infinity());
  const uint16_t largest = 0x7f7f;
  EXPECT_EQ(Reduce<uint16_t>({infinity, BFloat16Bits(1)}, DType::kBFloat16, ReduceOp::kSum),
            infinity);
  EXPECT_EQ(Reduce<uint16_t>({largest, largest}, DType::kBFloat16, ReduceOp::kSum), infinity);
  const uint16_t nan =
      Reduce<uint16_t>({0x7fff, BFloat16Bits(1)}, DType::kBFloat16, ReduceOp::kSum);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(static_cast<uint32_t>(nan) << 16)));
}

TEST(ReduceTest, MaxKeepsNaNWhereverItComes) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(Reduce<double>({nan, 1, 2}, DType::kFloat64, ReduceOp::kMax)));
  EXPECT_TRUE(std::isnan(Reduce<double>({1, 2, nan}, DType::kFloat64, ReduceOp::kMax)));
  EXPECT_EQ(Reduce<double>({-3, -1, -2}, DType::kFloat64, ReduceOp::kMax), -1);
}

TEST(ReduceTest, ResultMayBeASource) {
  std::vector<float> a(5000, 1.5f);
  std::vector<float> b(5000, 2.0f);
  const void* sources[] = {a.data(), b.data()};
  ReduceElements(sources, b.data(), b.size(), DType::kFloat32, ReduceOp::kSum);
  EXPECT_EQ(b, std::vector<float>(5000, 3.5f));
}

TEST(RingTest, ShowsWhatWasWrittenAcrossItsEnd) {
  RingPositions positions{};
  alignas(64) std::byte memory[128];
  Ring ring(&positions, memory, sizeof(memory));
  std::vector<uint8_t> out;
  uint8_t next = 0;
  for (int round = 0; round < 50; ++round) {
    uint8_t bytes[48];
    for (uint8_t& byte : bytes) byte = next++;
    const iovec parts[] = {{bytes, 5}, {nullptr, 0}, {bytes + 5, 43}};
    ASSERT_EQ(ring.Write(parts, 3, 1000), 48u);
    for (auto span = ring.Peek(); !span.empty(); span = ring.Peek()) {
      for (const std::byte byte : span) out.push_back(static_cast<uint8_t>(byte));
      ring.Consume(span.size());
    }
  }
  ASSERT_EQ(out.size(), 2400u);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], static_cast<uint8_t>(i));
}

TEST(RingTest, TakesOnlyWhatFits) {
  RingPositions positions{};
  alignas(64) std::byte memory[128];
  Ring ring(&positions, memory, sizeof(memory));
  uint8_t bytes[200] = {};
  const iovec part{bytes, sizeof(bytes)};
  EXPECT_EQ(ring.Write(&part, 1, 1000), 128u);
  EXPECT_EQ(ring.Write(&part, 1, 1000), 0u);
  ring.Consume(10);
  EXPECT_EQ(ring.FreeBytes(), 10u);
  EXPECT_EQ(ring.Write(&part, 1, 4), 4u);
}

}  // namespace
}  // namespace weft
