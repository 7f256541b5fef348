#include "parallel/optim/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "parallel/optim/lr_schedule.h"

namespace weft {
namespace {

struct OneRank {
  OneRank(const std::vector<ParamSpec>& specs, Precision precision, const OptimizerRecipe& options)
      : context(ParallelOptions{}),
        store(specs, precision, &context),
        reducer(&store, &context),
        optimizer(options, &store) {
    store.Initialize(1);
  }
  void Step(double grad, double lr) {
    const auto groups = static_cast<int>(store.groups().size());
    reducer.Begin();
    for (int g = 0; g < groups; ++g) EXPECT_TRUE(reducer.Prepare(g, 0).ok());
    for (const auto& parameter : store.parameters()) parameter->main_grad.fill_(grad);
    for (int g = 0; g < groups; ++g) {
      reducer.SlotDone(g, 0);
      EXPECT_TRUE(reducer.Launch(g, 0).ok());
    }
    EXPECT_TRUE(reducer.Finish().ok());
    EXPECT_TRUE(optimizer.Step(lr, reducer).ok());
  }
  double Value(const std::string& name) { return store.Get(name)->value.item<double>(); }

  ParallelContext context;
  ParameterStore store;
  GradientReducer reducer;
  AdamW optimizer;
};

// torch.optim.AdamW, one scalar: p0 = 1, gradients .5, -.25, .125, lr .1, decay .02.
TEST(AdamWTest, MatchesTorchOnAScalar) {
  OptimizerRecipe options;
  options.set_beta2(0.999);
  options.set_eps(1e-8);
  options.set_weight_decay(0.02);
  OneRank rank({ParamSpec{"p", {}, Init::Constant(1)}}, FP64, options);
  rank.Step(0.5, 0.1);
  EXPECT_NEAR(rank.Value("p"), 0.89800000, 6e-9);
  rank.Step(-0.25, 0.1);
  EXPECT_NEAR(rank.Value("p"), 0.86957030, 6e-9);
  rank.Step(0.125, 0.1);
  EXPECT_NEAR(rank.Value("p"), 0.83378824, 6e-9);
}

// The rule of fairseq, written out: decay, then lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps).
TEST(AdamWTest, EpsHatIsAddedToTheUncorrectedRoot) {
  OptimizerRecipe options;
  options.set_eps(1e-2);
  options.set_eps_hat(true);
  options.set_weight_decay(0.01);
  OneRank rank({ParamSpec{"p", {}, Init::Constant(1)}}, FP64, options);
  double p = 1, m = 0, v = 0;
  int t = 0;
  for (const double g : {0.5, -0.25, 0.125}) {
    rank.Step(g, 0.1);
    ++t;
    m = 0.9 * m + 0.1 * g;
    v = 0.98 * v + 0.02 * g * g;
    p -= 0.1 * 0.01 * p;
    p -=
        0.1 * std::sqrt(1 - std::pow(0.98, t)) / (1 - std::pow(0.9, t)) * m / (std::sqrt(v) + 1e-2);
    EXPECT_NEAR(rank.Value("p"), p, 1e-14);
  }
}

TEST(AdamWTest, PaddingRowsStartAtZero) {
  ParamSpec table{"t", {3, 4}, Init::Normal(1)};
  table.padding_row = 1;
  OneRank rank({table}, FP64, OptimizerRecipe());
  const at::Tensor value = rank.store.Get("t")->value;
  EXPECT_EQ((value == 0).sum().item<int64_t>(), 4);
  EXPECT_TRUE((value.select(0, 1) == 0).all().item<bool>());
}

TEST(AdamWTest, DecaysOnlyItsGroupAndClamps) {
  ParamSpec clamped{"c", {}, Init::Constant(5), /*decay=*/false};
  clamped.clamp = ClampRange{0, 4.6};
  OptimizerRecipe options;
  options.set_weight_decay(0.5);
  OneRank rank({ParamSpec{"a", {}, Init::Constant(1)}, ParamSpec{"b", {}, Init::Constant(1), false},
                clamped},
               FP32, options);
  rank.Step(0, 0.1);
  EXPECT_NEAR(rank.Value("a"), 0.95, 1e-6);
  EXPECT_EQ(rank.Value("b"), 1);
  EXPECT_NEAR(rank.Value("c"), 4.6, 1e-6);
}

TEST(AdamWTest, MasterWeightsKeepWhatBf16WouldLose) {
  OptimizerRecipe options;
  options.set_weight_decay(0);
  OneRank rank({ParamSpec{"p", {}, Init::Constant(1)}}, BF16, options);
  for (int step = 0; step < 100; ++step) rank.Step(1, 1e-4);
  // Each update is far below bf16's spacing at 1 (2^-8), their sum is not.
  EXPECT_NEAR(rank.Value("p"), 0.99, 0.004);
  EXPECT_LT(rank.Value("p"), 1);
}

TEST(AdamWTest, ImportedStateGoesOnWithTheSameBits) {
  const std::vector<ParamSpec> specs = {ParamSpec{"a", {50, 90}, Init::Normal(1)},
                                        ParamSpec{"b", {7}, Init::Normal(1), false}};
  OptimizerRecipe options;
  OneRank first(specs, BF16, options);
  first.Step(0.3, 0.01);
  std::map<std::string, std::string> saved;
  for (const StateSlice& slice : first.optimizer.ExportState()) {
    EXPECT_EQ(slice.flat_begin, 0);
    EXPECT_STREQ(slice.dtype, "f32");
    saved[slice.name] = std::string(static_cast<const char*>(slice.data), slice.bytes);
  }
  EXPECT_EQ(saved.size(), 6u);
  first.Step(-0.2, 0.01);

  OneRank second(specs, BF16, options);
  second.Step(9, 0.5);  // something else, to be overwritten
  const Status status = second.optimizer.ImportState(
      1, [&](const std::string& name, int64_t begin, int64_t end, void* out) {
        std::memcpy(out, saved.at(name).data() + begin * 4, static_cast<size_t>(end - begin) * 4);
        return OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  second.Step(-0.2, 0.01);
  for (const char* name : {"a", "b"}) {
    EXPECT_TRUE(at::equal(first.store.Get(name)->value, second.store.Get(name)->value)) << name;
  }
  EXPECT_EQ(second.optimizer.step_count(), 2);
}

TEST(LearningRateTest, WarmsUpThenFollowsACosine) {
  OptimizerRecipe optimizer;
  optimizer.set_lr(1);
  ScheduleRecipe schedule;
  schedule.set_warmup_steps(4);
  schedule.set_final_lr(0.2);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 0), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 3), 1);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 4), 1);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 8), 0.6);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 12), 0.2);
  schedule.set_warmup_steps(0);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, schedule, 12, 0), 1);
}

// base.yaml of fairseq's RoBERTa, by the number of the update.
TEST(LearningRateTest, FallsOnALineToZeroInTheLastStep) {
  OptimizerRecipe optimizer;
  optimizer.set_lr(5e-4);
  ScheduleRecipe schedule;
  schedule.set_warmup_steps(10000);
  schedule.set_decay(LINEAR);
  const auto update = [&](int64_t n) { return LearningRate(optimizer, schedule, 125000, n - 1); };
  EXPECT_DOUBLE_EQ(update(1), 5e-8);
  EXPECT_DOUBLE_EQ(update(5000), 2.5e-4);
  EXPECT_DOUBLE_EQ(update(10000), 5e-4);
  EXPECT_DOUBLE_EQ(update(67500), 2.5e-4);
  EXPECT_DOUBLE_EQ(update(125000), 0);
  schedule.set_decay(CONSTANT);
  EXPECT_DOUBLE_EQ(update(5000), 2.5e-4);
  EXPECT_DOUBLE_EQ(update(125000), 5e-4);
}

}  // namespace
}  // namespace weft
