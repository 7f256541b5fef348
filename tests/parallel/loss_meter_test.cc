// Weights and values of a loss for every scope: those of one rank on any number of ranks.
#include "parallel/engine/loss_meter.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/thread_world.h"

namespace weft {
namespace {

constexpr int kSlots = 5;
constexpr int kMicroBatches = 2;

// Targets of a micro-batch; slot 3 has none at all.
int64_t Targets(int slot, int micro_batch) {
  return slot == 3 ? 0 : 1 + 2 * slot + 5 * micro_batch;
}
double Sum(int slot, int micro_batch) { return 0.25 + slot + 10.0 * micro_batch; }

struct Result {
  std::map<int, double> weights;  // slot * kMicroBatches + micro-batch
  double value = 0;
};

Result RunRank(LossScope scope, Communicator* dp) {
  ParallelOptions options;
  options.dp = dp;
  options.num_slots = kSlots;
  ParallelContext context(options);
  LossOutput loss{"loss", "loss", scope,
                  [](const NamedTensors& inputs) { return inputs.at("n").item<int64_t>(); }};
  LossMeter meter({&loss}, kMicroBatches, &context);
  std::vector<NamedTensors> inputs;
  for (const int slot : context.slots()) {
    for (int m = 0; m < kMicroBatches; ++m)
      inputs.push_back({{"n", at::scalar_tensor(Targets(slot, m), at::kLong)}});
  }
  EXPECT_TRUE(meter.Begin(inputs).ok());
  Result result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int slot = context.slots()[i / kMicroBatches];
    const auto m = static_cast<int>(i % kMicroBatches);
    meter.Add(loss, static_cast<int>(i), at::scalar_tensor(Sum(slot, m), at::kDouble));
    result.weights[slot * kMicroBatches + m] = meter.Weight(loss, static_cast<int>(i));
  }
  result.value = meter.Finish().value()[0].value;
  return result;
}

TEST(LossMeterTest, TheMeanIsOverItsScope) {
  int64_t all = 0;
  for (int slot = 0; slot < kSlots; ++slot) all += Targets(slot, 0) + Targets(slot, 1);
  const Result global = RunRank(LossScope::kGlobal, nullptr);
  const Result slots = RunRank(LossScope::kSlot, nullptr);
  const Result micro = RunRank(LossScope::kMicroBatch, nullptr);
  EXPECT_DOUBLE_EQ(global.weights.at(5), 1.0 / static_cast<double>(all));
  EXPECT_DOUBLE_EQ(slots.weights.at(5), 1.0 / (kSlots * (Targets(2, 0) + Targets(2, 1))));
  EXPECT_DOUBLE_EQ(micro.weights.at(5), 1.0 / (kSlots * kMicroBatches * Targets(2, 1)));
  EXPECT_EQ(micro.weights.at(6), 0) << "no targets, no weight";
  double expected = 0;
  for (int slot = 0; slot < kSlots; ++slot) {
    for (int m = 0; m < kMicroBatches; ++m)
      expected += Sum(slot, m) * micro.weights.at(slot * kMicroBatches + m);
  }
  EXPECT_NEAR(micro.value, expected, 1e-12);
}

TEST(LossMeterTest, RanksDoNotShowInTheBits) {
  for (const LossScope scope : {LossScope::kGlobal, LossScope::kSlot, LossScope::kMicroBatch}) {
    const Result alone = RunRank(scope, nullptr);
    for (int ranks = 2; ranks <= kSlots; ++ranks) {
      const Status status = testing::ThreadWorld(ranks, [&](Communicator& dp) {
        const Result result = RunRank(scope, &dp);
        EXPECT_EQ(result.value, alone.value) << ranks;
        for (const auto& [key, weight] : result.weights) EXPECT_EQ(weight, alone.weights.at(key));
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

}  // namespace
}  // namespace weft
