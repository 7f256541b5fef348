// For every number of slots and ranks: the sum over slots, the norm and an optimizer step have the bits of one process.
#include "parallel/data/gradient_reducer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/philox.h"
#include "parallel/data/grad_norm.h"
#include "parallel/optim/adamw.h"
#include "tests/support/thread_world.h"

namespace weft {
namespace {

std::vector<ParamSpec> Specs() {
  std::vector<ParamSpec> specs(4);
  specs[0] = {"a", {70, 100}, Init::Normal(1)};
  specs[1] = {"b", {33}, Init::Uniform(0.5), /*decay=*/false};
  specs[2] = {"c", {5000}, Init::Normal(0.1)};
  specs[3] = {"scale", {}, Init::Constant(4.9), /*decay=*/false};
  specs[3].keep_fp32 = true;
  specs[3].clamp = ClampRange{0, 4.6};
  return specs;
}

// What one rank of `size` ends with: norm, values, and its shard of the state.
struct Result {
  double norm = 0;
  std::string values;
  std::map<std::string, std::string> state;  // "adam.m/a@0" -> bytes
};

void AddSlotGradients(ParameterStore* store, int slot, int step) {
  const KeyedRandom random(3, "grads", static_cast<uint64_t>(step));
  for (const auto& parameter : store->parameters()) {
    at::Tensor flat = parameter->main_grad.view({-1});
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const auto row = static_cast<uint64_t>(slot + 100 * parameter->spec.shape.size());
      const double value = random.Normal(row, static_cast<uint64_t>(i));
      if (flat.scalar_type() == at::kFloat) {
        flat.data_ptr<float>()[i] += static_cast<float>(value);
      } else {
        flat.data_ptr<double>()[i] += value;
      }
    }
  }
}

// What an engine does, without its order of blocks.
void AddAllSlots(ParameterStore* store, GradientReducer* reducer, ParallelContext* context,
                 int step) {
  const bool interleaved = context->slot_order() == SlotOrder::kInterleaved;
  const auto own = static_cast<int>(context->slots().size());
  const auto groups = static_cast<int>(store->groups().size());
  for (int i = 0; i < own; ++i) {
    for (int g = 0; g < groups; ++g) WEFT_CHECK_OK(reducer->Prepare(g, i));
    AddSlotGradients(store, context->slots()[static_cast<size_t>(i)], step);
    for (int g = groups; g-- > 0;) {
      reducer->SlotDone(g, i);
      if (interleaved) WEFT_CHECK_OK(reducer->Launch(g, i));
    }
  }
  // Rounds in which this rank has no slot; the one round of contiguous slots.
  for (int round = interleaved ? own : 0; round < reducer->num_rounds(); ++round) {
    for (int g = groups; g-- > 0;) WEFT_CHECK_OK(reducer->Launch(g, round));
  }
}

Result RunRank(int slots, int zero_stage, Communicator* dp, Precision precision,
               ParallelOptions parallel = {}) {
  parallel.dp = dp;
  parallel.num_slots = slots;
  if (zero_stage > 1) parallel.slot_order = SlotOrder::kInterleaved;
  ParallelContext context(parallel);
  std::vector<PlacedParam> params;
  for (const ParamSpec& spec : Specs())
    params.push_back({spec, 0, static_cast<int>(params.size())});
  StoreOptions store_options;
  store_options.precision = precision;
  store_options.zero_stage = zero_stage;
  store_options.bucket_bytes = zero_stage == 1 ? 32 << 20 : 1;
  store_options.num_model_params = static_cast<int>(params.size());
  ParameterStore store(params, store_options, &context);
  store.Initialize(5);
  GradientReducer reducer(&store, &context);
  OptimizerRecipe options;
  AdamW optimizer(options, &store);
  Result result;
  for (int step = 0; step < 2; ++step) {
    reducer.Begin();
    AddAllSlots(&store, &reducer, &context, step);
    WEFT_CHECK_OK(reducer.Finish());
    result.norm = *GradientNorm(store, reducer, &context, step);
    ClipGradients(store, reducer, result.norm, 1.0);
    WEFT_CHECK_OK(optimizer.Step(1e-2, reducer));
  }
  for (size_t g = 0; g < store.groups().size(); ++g) {
    store.LaunchGather(static_cast<int>(g));
    WEFT_CHECK_OK(store.WaitGather(static_cast<int>(g)));
  }
  for (const auto& parameter : store.parameters()) {
    result.values.append(static_cast<const char*>(parameter->value.data_ptr()),
                         parameter->value.nbytes());
  }
  for (const StateSlice& slice : optimizer.ExportState()) {
    const size_t element = slice.bytes / static_cast<size_t>(slice.flat_end - slice.flat_begin);
    for (int64_t i = slice.flat_begin; i < slice.flat_end; ++i) {
      const char* data = static_cast<const char*>(slice.data);
      result.state[slice.name + "@" + std::to_string(i)] =
          std::string(data + static_cast<size_t>(i - slice.flat_begin) * element, element);
    }
  }
  return result;
}

class ReducerTest : public ::testing::TestWithParam<Precision> {};

TEST_P(ReducerTest, EveryNumberOfRanksGivesTheBitsOfOne) {
  for (int slots = 1; slots <= 9; ++slots) {
    const Result alone = RunRank(slots, 1, nullptr, GetParam());
    EXPECT_TRUE(RunRank(slots, 2, nullptr, GetParam()).values == alone.values) << slots;
    for (int ranks = 2; ranks <= slots; ++ranks) {
      const int zero_stage = 1 + (ranks + slots) % 3;
      Mutex mutex;
      std::map<std::string, std::string> state;
      const Status status = testing::ThreadWorld(ranks, [&](Communicator& dp) {
        const Result result = RunRank(slots, zero_stage, &dp, GetParam());
        const MutexLock lock(mutex);
        EXPECT_EQ(result.norm, alone.norm) << slots << " slots, " << ranks << " ranks";
        EXPECT_TRUE(result.values == alone.values) << slots << " slots, " << ranks << " ranks";
        for (const auto& [key, bytes] : result.state) {
          EXPECT_TRUE(state.emplace(key, bytes).second) << key << " is owned twice";
        }
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(state == alone.state) << slots << " slots, " << ranks << " ranks";
    }
  }
}

TEST(ReducerSumTest, GroupsThatHoldCopiesGiveTheBitsOfOne) {
  for (const int zero_stage : {1, 2, 3}) {
    const Result alone = RunRank(7, 1, nullptr, FP32);
    Mutex mutex;
    std::map<std::string, std::string> state;
    const Status status = testing::ThreadWorld(6, [&](Communicator& dp) {
      ParallelOptions parallel;
      parallel.shard_ranks = 2;
      const Result result = RunRank(7, zero_stage, &dp, FP32, parallel);
      const MutexLock lock(mutex);
      EXPECT_EQ(result.norm, alone.norm) << zero_stage;
      EXPECT_TRUE(result.values == alone.values) << zero_stage;
      for (const auto& [key, bytes] : result.state)
        EXPECT_TRUE(state.emplace(key, bytes).second) << key << " is saved twice";
      return OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_TRUE(state == alone.state) << zero_stage;
  }
}

TEST(ReducerSumTest, WithoutDeterminismTheSumIsTheSameButForRounding) {
  const Result alone = RunRank(6, 1, nullptr, FP64);
  for (const int zero_stage : {1, 2, 3}) {
    for (const int shard_ranks : {0, 2}) {
      const Status status = testing::ThreadWorld(4, [&](Communicator& dp) {
        ParallelOptions parallel;
        parallel.deterministic = false;
        parallel.shard_ranks = shard_ranks;
        EXPECT_NEAR(RunRank(6, zero_stage, &dp, FP64, parallel).norm, alone.norm,
                    1e-10 * alone.norm);
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, ReducerTest, ::testing::Values(FP32, BF16, FP64),
                         [](const auto& info) { return Precision_Name(info.param); });

TEST(ReducerSumTest, SumsAsTheTreeDoes) {
  ParallelContext context({.num_slots = 5});
  ParameterStore store({ParamSpec{"x", {}, Init::Constant(0)}}, FP64, &context);
  GradientReducer reducer(&store, &context);
  const double values[] = {1, 1, 1e17, -1e17, 1};
  reducer.Begin();
  for (int slot = 0; slot < 5; ++slot) {
    ASSERT_TRUE(reducer.Prepare(0, slot).ok());
    store.Get("x")->main_grad.add_(values[slot]);
    reducer.SlotDone(0, slot);
  }
  ASSERT_TRUE(reducer.Launch(0, 0).ok());
  ASSERT_TRUE(reducer.Finish().ok());
  EXPECT_EQ(reducer.shard(0)[0].item<double>(), TreeSum(values));
}

// A step of one slot, whose gradient `fill` writes.
template <typename Fill>
void OneSlot(ParameterStore* store, GradientReducer* reducer, const Fill& fill) {
  const auto groups = static_cast<int>(store->groups().size());
  reducer->Begin();
  for (int g = 0; g < groups; ++g) WEFT_CHECK_OK(reducer->Prepare(g, 0));
  fill();
  for (int g = 0; g < groups; ++g) {
    reducer->SlotDone(g, 0);
    WEFT_CHECK_OK(reducer->Launch(g, 0));
  }
  WEFT_CHECK_OK(reducer->Finish());
}

TEST(GradientNormTest, NamesTheStepWhenItIsNotFinite) {
  ParallelContext context(ParallelOptions{});
  ParameterStore store(Specs(), FP32, &context);
  GradientReducer reducer(&store, &context);
  OneSlot(&store, &reducer,
          [&] { store.Get("c")->main_grad.fill_(std::numeric_limits<double>::infinity()); });
  const StatusOr<double> norm = GradientNorm(store, reducer, &context, 17);
  ASSERT_FALSE(norm.ok());
  EXPECT_NE(norm.status().message().find("step 17"), std::string::npos);
}

TEST(GradientNormTest, ClipsToTheNorm) {
  ParallelContext context(ParallelOptions{});
  ParameterStore store(Specs(), FP64, &context);
  GradientReducer reducer(&store, &context);
  OneSlot(&store, &reducer, [&] { store.Get("b")->main_grad.fill_(2); });
  const double norm = *GradientNorm(store, reducer, &context, 0);
  EXPECT_NEAR(norm, std::sqrt(33 * 4.0), 1e-12);
  ClipGradients(store, reducer, norm, 0);
  EXPECT_EQ(*GradientNorm(store, reducer, &context, 0), norm);
  ClipGradients(store, reducer, norm, 0.5);
  EXPECT_NEAR(*GradientNorm(store, reducer, &context, 0), 0.5, 1e-12);
}

}  // namespace
}  // namespace weft
