// Keyed dropout: the same bits for every way to split a tensor, the right rate, and Philox's own draws.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "cluster/base/philox.h"
#include "models/layers/dropout.h"
#include "tests/models/tensor_fixture.h"

namespace weft::testing {
namespace {

constexpr int64_t kSamples = 4;
constexpr int64_t kTokens = 7;
constexpr int64_t kWidth = 13;

MicroBatchContext ContextAt(int64_t first_row) {
  MicroBatchContext context;
  context.seed = 11;
  context.step = 5;
  context.wave = "main";
  context.first_row = first_row;
  context.samples = kSamples;
  return context;
}

at::Tensor Mask(const at::Tensor& like, const Dropout& dropout, const ElementRuns& runs) {
  return DropoutMasked(at::ones_like(like), dropout, runs);
}

TEST(DropoutTest, DrawsAreSixteenBitsOfPhilox) {
  const MicroBatchContext context = ContextAt(100);
  const Dropout dropout = DropoutAt(context, "b.hidden1", 0.3);
  const uint64_t key = KeyedRandom(11, "dropout:main/b.hidden1", 5).key();
  const at::Tensor ones = at::ones({kSamples, kTokens, kWidth}, at::kDouble);
  const at::Tensor mask = Mask(ones, dropout, TokenRuns(context, kTokens, kWidth));
  const double* const got = mask.const_data_ptr<double>();
  for (int64_t i = 0; i < ones.numel(); ++i) {
    const int64_t element = i % (kTokens * kWidth);
    const PhiloxBlock block = Philox4x32(key, static_cast<uint64_t>(100 + i / (kTokens * kWidth)),
                                         static_cast<uint64_t>(element / 8));
    const uint32_t word = block[static_cast<size_t>(element % 8 / 2)];
    const uint32_t bits = element % 2 == 0 ? word & 0xffff : word >> 16;
    EXPECT_EQ(got[i], bits < std::lround(0.3 * 65536) ? 0 : 1 / 0.7) << i;
  }
}

TEST(DropoutTest, RowsOfAnySplitHaveTheBitsOfTheWhole) {
  const MicroBatchContext context = ContextAt(8);
  const Dropout dropout = DropoutAt(context, "site", 0.5);
  const at::Tensor x = Numbers({kSamples * kTokens, kWidth}, 0.3);
  const at::Tensor whole = DropoutMasked(x, dropout, TokenRuns(context, kTokens, kWidth));
  for (int64_t begin = 0; begin < x.size(0); ++begin) {
    for (const int64_t n : {1, 5, 9}) {
      if (begin + n > x.size(0)) continue;
      const at::Tensor part =
          DropoutMasked(x.narrow(0, begin, n), dropout, TokenRuns(context, kTokens, kWidth, begin));
      EXPECT_TRUE(at::equal(part, whole.narrow(0, begin, n))) << begin << " " << n;
    }
  }
  // Samples of another micro-batch that has the same global rows.
  const MicroBatchContext later = ContextAt(10);
  const at::Tensor tail = x.narrow(0, 2 * kTokens, kTokens);
  EXPECT_TRUE(at::equal(DropoutMasked(tail, dropout, TokenRuns(later, kTokens, kWidth)),
                        whole.narrow(0, 2 * kTokens, kTokens)));
}

TEST(DropoutTest, HeadsOfAnySplitHaveTheBitsOfTheWhole) {
  const Dropout dropout = DropoutAt(ContextAt(8), "attn", 0.5);
  for (const int64_t most : {6, 9}) {  // as many tokens as the recipe has, and fewer
    const at::Tensor x = Numbers({2, 8, 6, 6}, 0.3);
    const at::Tensor whole = DropoutMasked(x, dropout, HeadRuns(8, 8, 0, 6, 6, most));
    for (const int64_t heads : {1, 2, 4}) {
      for (int64_t first = 0; first < 8; first += heads) {
        const at::Tensor part = DropoutMasked(x.narrow(1, first, heads), dropout,
                                              HeadRuns(8, heads, first, 6, 6, most));
        EXPECT_TRUE(at::equal(part, whole.narrow(1, first, heads))) << first;
      }
    }
  }
  // A token's draws do not depend on how far rows are padded.
  const at::Tensor ones = at::ones({1, 2, 6, 6}, at::kDouble);
  const at::Tensor all = Mask(ones, dropout, HeadRuns(8, 2, 0, 6, 6, 9));
  const at::Tensor few =
      Mask(ones.narrow(2, 0, 4).narrow(3, 0, 4), dropout, HeadRuns(8, 2, 0, 4, 4, 9));
  EXPECT_TRUE(at::equal(few, all.narrow(2, 0, 4).narrow(3, 0, 4)));
}

TEST(DropoutTest, EveryTypeHasTheSameMaskAndTheRightRate) {
  const MicroBatchContext context = ContextAt(0);
  const ElementRuns runs = TokenRuns(context, 100, 257);
  for (const double p : {0.0, 0.1, 0.5, 0.9}) {
    const Dropout dropout = DropoutAt(context, "site", p);
    const at::Tensor ones = at::ones({40, 100, 257}, at::kDouble);
    const at::Tensor mask = Mask(ones, dropout, runs);
    const auto n = static_cast<double>(ones.numel());
    const double kept = mask.ne(0).sum().item<double>() / n;
    EXPECT_NEAR(kept, 1 - p, 5 * std::sqrt(p * (1 - p) / n) + 1.0 / 65536) << p;
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      EXPECT_TRUE(at::equal(Mask(ones.to(type), dropout, runs).ne(0), mask.ne(0))) << p;
    }
  }
}

TEST(DropoutTest, SitesStepsSeedsAndWavesDrawTheirOwn) {
  const MicroBatchContext context = ContextAt(0);
  const uint64_t key = DropoutKey(context, "a");
  MicroBatchContext other = context;
  other.step = 6;
  EXPECT_NE(DropoutKey(other, "a"), key);
  other = context;
  other.wave = "second";
  EXPECT_NE(DropoutKey(other, "a"), key);
  other = context;
  other.seed = 12;
  EXPECT_NE(DropoutKey(other, "a"), key);
  EXPECT_NE(DropoutKey(context, "b"), key);
  other = context;
  other.training = false;
  EXPECT_EQ(DropoutAt(other, "a", 0.1).p, 0);
}

TEST(DropoutTest, TheBackwardDrawsTheSameMask) {
  const MicroBatchContext context = ContextAt(0);
  const Dropout dropout = DropoutAt(context, "site", 0.4);
  const ElementRuns runs = TokenRuns(context, kTokens, kWidth);
  const at::Tensor x = Numbers({kSamples, kTokens, kWidth}, 0.3).set_requires_grad(true);
  const at::Tensor y = ApplyDropout(x, dropout, runs);
  const at::Tensor dy = Numbers({kSamples, kTokens, kWidth}, 0.6);
  const at::Tensor dx = torch::autograd::grad({y}, {x}, {dy})[0];
  EXPECT_TRUE(at::equal(dx, DropoutMasked(dy, dropout, runs)));
}

TEST(DropPathTest, DropsWholeSamplesInAnySplit) {
  MicroBatchContext context = ContextAt(0);
  context.samples = 1000;
  const Dropout dropout = DropoutAt(context, "path", 0.25);
  const at::Tensor ones = at::ones({1000, 3, 2}, at::kDouble);
  const at::Tensor whole = DropPath(ones, dropout, context, 3);
  const at::Tensor kept = whole.select(1, 0).select(1, 0);
  EXPECT_TRUE(at::equal(whole, kept.view({1000, 1, 1}).expand({1000, 3, 2})));
  EXPECT_NEAR(kept.ne(0).sum().item<double>(), 750, 70);
  EXPECT_NEAR(kept.max().item<double>(), 1 / 0.75, 1e-15);
  const at::Tensor rows = ones.flatten(0, 1).narrow(0, 10, 77);
  EXPECT_TRUE(
      at::equal(DropPath(rows, dropout, context, 3, 10), whole.flatten(0, 1).narrow(0, 10, 77)));
}

}  // namespace
}  // namespace weft::testing
