// What a GPU's threads do, done by the CPU in a random order of the threads: the bits of the CPU's own kernels.
#include "models/layers/kernel_bodies.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "models/layers/dropout.h"

namespace weft {
namespace {

std::vector<int64_t> Shuffled(int64_t threads) {
  std::vector<int64_t> order(static_cast<size_t>(threads));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  return order;
}

template <typename T, typename Wide>
at::Tensor DropoutByThreads(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs) {
  const body::DropoutPlan plan = {
      dropout.key,         static_cast<uint32_t>(std::lround(dropout.p * 65536)),
      1 / (1 - dropout.p), runs.length,
      runs.first_row,      runs.first_run,
      runs.runs_a_row,     runs.inner,
      runs.inner_stride,   runs.outer_stride,
      runs.offset};
  at::Tensor y = at::full_like(x, 77);
  for (const int64_t thread : Shuffled(x.numel() / runs.length * body::ThreadsPerRun(plan))) {
    body::DropoutThread<T, Wide>(static_cast<const T*>(x.const_data_ptr()),
                                 static_cast<T*>(y.data_ptr()), plan, thread);
  }
  return y;
}

void ExpectSameBits(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs) {
  const at::Tensor f32 = x.to(at::kFloat);
  const at::Tensor bf16 = x.to(at::kBFloat16);
  EXPECT_TRUE(at::equal((DropoutByThreads<double, double>(x, dropout, runs)),
                        DropoutMasked(x, dropout, runs)));
  EXPECT_TRUE(at::equal((DropoutByThreads<float, float>(f32, dropout, runs)),
                        DropoutMasked(f32, dropout, runs)));
  EXPECT_TRUE(at::equal((DropoutByThreads<body::BFloat16, float>(bf16, dropout, runs)),
                        DropoutMasked(bf16, dropout, runs)));
}

at::Tensor Values(at::IntArrayRef sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  return at::arange(1, count + 1, at::kDouble).mul(0.371).sin().view(sizes);
}

TEST(KernelBodiesTest, DropoutOfTokensHasTheBitsOfTheCpu) {
  MicroBatchContext context;
  context.first_row = 5;
  for (const int64_t width : {1, 7, 8, 9, 64, 131}) {
    for (const int64_t begin : {0, 3, 11}) {
      ExpectSameBits(Values({13, width}), {0.3, 0x123456789abcdefULL},
                     TokenRuns(context, 7, width, begin));
    }
  }
}

TEST(KernelBodiesTest, DropoutOfHeadsHasTheBitsOfTheCpu) {
  for (const int64_t most : {6, 9, 17}) {
    for (const int64_t first_head : {0, 3}) {
      ExpectSameBits(Values({2, 4, 6, 6}), {0.1, 0xfedcba987654321ULL},
                     HeadRuns(1ULL << 33, 4, first_head, 6, 6, most));
    }
  }
}

TEST(KernelBodiesTest, RowsAreAddedInTheOrderOfTheIds) {
  constexpr int64_t kWidth = 5;
  const at::Tensor ids = at::tensor({3, 0, -1, 3, 2, 3, 0, -1}, at::kLong);
  // Values whose sum depends on its order.
  const at::Tensor rows = Values({ids.numel(), kWidth}).pow(9).mul(1e5).to(at::kFloat);
  const at::Tensor table = Values({4, kWidth}).to(at::kFloat);
  at::Tensor expected = table.clone();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    const int64_t id = ids[i].item<int64_t>();
    if (id >= 0) expected[id].add_(rows[i]);
  }
  const auto [sorted, order] = at::sort(ids, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor got = table.clone();
  for (const int64_t thread : Shuffled(ids.numel() * kWidth)) {
    body::AddRowsThread(got.data_ptr<float>(), sorted.const_data_ptr<int64_t>(),
                        order.const_data_ptr<int64_t>(), rows.const_data_ptr<float>(), ids.numel(),
                        kWidth, thread);
  }
  EXPECT_TRUE(at::equal(got, expected));
}

}  // namespace
}  // namespace weft
