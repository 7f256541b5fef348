#include "cluster/base/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace weft {
namespace {

// The known answers that Random123 ships (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox4x32, KnownAnswers) {
  EXPECT_EQ(Philox4x32(0, 0, 0), (PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32(~0ULL, ~0ULL, ~0ULL),
            (PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // Counter and key are the digits of pi.
  EXPECT_EQ(Philox4x32(0x299f31d0a4093822ULL, 0x0370734413198a2eULL, 0x85a308d3243f6a88ULL),
            (PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// References by mpmath with 400 digits, for the doubles nearest to the decimals written here.
TEST(InverseNormalCdf, KnownQuantiles) {
  const std::vector<std::pair<double, double>> quantiles = {
      {0.75, 0.6744897501960817432},   {0.925, 1.4395314709384562291},
      {0.93, 1.475791028179171099},    {0.975, 1.9599639845400538556},
      {0.999, 3.0902323061678132778},  {1e-3, -3.0902323061678135354},
      {0.02, -2.0537489106318230443},  {1e-5, -4.2648907939228246102},
      {1e-11, -6.7060231554951362961}, {1e-12, -7.0344838253011319326},
      {1e-20, -9.2623400897984075796}, {1e-100, -21.273453560965324294},
      {1e-300, -37.047096299361199237}};
  for (const auto& [p, x] : quantiles) {
    EXPECT_NEAR(InverseNormalCdf(p) / x, 1.0, 1e-14) << "p = " << p;
  }
  EXPECT_EQ(InverseNormalCdf(0.5), 0.0);
}

TEST(InverseNormalCdf, RisesAndIsOdd) {
  double before = InverseNormalCdf(1e-9);
  for (int i = 1; i < 4096; ++i) {
    const double p = i / 4096.0;
    const double x = InverseNormalCdf(p);
    EXPECT_GT(x, before) << "p = " << p;
    EXPECT_EQ(x, -InverseNormalCdf(1.0 - p)) << "p = " << p;
    before = x;
  }
}

TEST(KeyedRandom, UniformCoversItsInterval) {
  const KeyedRandom random(1, "test");
  constexpr int kDraws = 100000;
  double sum = 0;
  double sum_of_squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.Uniform(3, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    const double open = random.UniformOpen(3, i);
    ASSERT_GT(open, 0.0);
    ASSERT_LT(open, 1.0);
    sum += u;
    sum_of_squares += u * u;
  }
  // Five standard errors: 5 * sqrt(1/12 / n), 5 * sqrt(4/45 / n).
  EXPECT_NEAR(sum / kDraws, 1.0 / 2, 0.0046);
  EXPECT_NEAR(sum_of_squares / kDraws, 1.0 / 3, 0.0048);
}

TEST(KeyedRandom, NormalHasTheMomentsOfANormal) {
  const KeyedRandom random(2, "init:visual.proj");
  constexpr int kDraws = 200000;
  double moments[5] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.Normal(i / 1000, i % 1000);
    for (int power = 1; power <= 4; ++power) moments[power] += std::pow(x, power) / kDraws;
  }
  // Five standard errors: the variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
  const double error = 5 / std::sqrt(kDraws);
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96));
}

TEST(KeyedRandom, BelowIsEven) {
  const KeyedRandom random(3, "order");
  std::vector<int> counts(7);
  constexpr int kDraws = 70000;
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t draw = random.Below(7, 0, i);
    ASSERT_LT(draw, 7u);
    ++counts[draw];
  }
  for (const int count : counts) EXPECT_NEAR(count, kDraws / 7, 5 * std::sqrt(kDraws / 7.0));
  EXPECT_EQ(random.Below(1, 5, 5), 0u);
  // 64-bit ranges do not wrap.
  EXPECT_GT(random.Below(~0ULL, 1, 1), 1ULL << 32);
}

TEST(KeyedRandom, EveryPartOfTheKeyAndTheCounterMatters) {
  std::set<uint64_t> bits;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (const char* purpose : {"augment", "augment2", "init:a", "init:b"}) {
      for (uint64_t step = 0; step < 4; ++step) {
        const KeyedRandom random(seed, purpose, step);
        for (uint64_t row = 0; row < 4; ++row) {
          for (uint64_t element = 0; element < 4; ++element) bits.insert(random.Bits(row, element));
        }
      }
    }
  }
  EXPECT_EQ(bits.size(), 4u * 4 * 4 * 4 * 4);
}

// A change here changes every run: the derivation of keys is part of the mathematics.
TEST(KeyedRandom, DerivationIsFrozen) {
  // Calculated by a program of its own from the rule in philox.h.
  const KeyedRandom random(1, "init:visual.proj", 2);
  EXPECT_EQ(random.Bits(3, 4), 0x0dc849365f097e1dULL);
}

}  // namespace
}  // namespace weft
