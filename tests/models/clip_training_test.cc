// CLIP as a run trains it: fp32 and bf16, keyed init, and no draw from LibTorch's generator.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/base/mutex.h"
#include "models/clip/clip.h"
#include "tests/models/clip_fixture.h"
#include "tests/support/thread_world.h"

namespace weft::testing {
namespace {

// Small enough for seconds, with every part of the real thing.
Recipe TinyRecipe(Precision precision, int slots, int micro_batches, int micro_batch_size) {
  Recipe recipe = GoldenRecipe(1, 1);
  recipe.set_precision(precision);
  recipe.mutable_batch()->set_slots(slots);
  recipe.mutable_batch()->set_micro_batches(micro_batches);
  recipe.mutable_batch()->set_micro_batch_size(micro_batch_size);
  return recipe;
}

TEST(ClipTrainingTest, OverfitsSixteenPairs) {
  for (const Precision precision : {FP32, BF16}) {
    ClipRank rank(TinyRecipe(precision, 1, 1, 16), nullptr);
    rank.store.Initialize(1);
    const std::vector<NamedTensors> batches = rank.RandomBatches(0);
    StepOutput output = rank.TrainStep(0, batches, 1e-3);
    EXPECT_GT(output.loss, 1);  // knows nothing yet
    for (int step = 1; step < 200 && output.loss >= 0.05; ++step)
      output = rank.TrainStep(step, batches, 1e-3);
    EXPECT_LT(output.loss, 0.05) << Precision_Name(precision);
    EXPECT_EQ(output.metrics[0].name, "accuracy");
    EXPECT_EQ(output.metrics[0].value, 1);
  }
}

TEST(ClipTrainingTest, Bf16StaysCloseToFp32) {
  ClipRank wide(TinyRecipe(FP32, 1, 1, 16), nullptr);
  ClipRank narrow(TinyRecipe(BF16, 1, 1, 16), nullptr);
  wide.store.Initialize(1);
  narrow.store.Initialize(1);
  const std::vector<NamedTensors> batches = wide.RandomBatches(0);
  const double loss = wide.Gradients(0, batches).loss;
  EXPECT_NEAR(narrow.Gradients(0, batches).loss / loss, 1, 0.02);
  EXPECT_NEAR(narrow.norm / wide.norm, 1, 0.05);
  for (const char* name : {"visual.conv1.weight", "token_embedding.weight", "text_projection",
                           "visual.transformer.resblocks.0.attn.in_proj_weight"}) {
    const at::Tensor a = wide.Gradient(name);
    const at::Tensor b = narrow.Gradient(name);
    EXPECT_GT(((a * b).sum() / (a.norm() * b.norm())).item<double>(), 0.99) << name;
  }
}

TEST(ClipTrainingTest, RanksDoNotShowInTheBits) {
  for (const Precision precision : {FP32, BF16}) {
    const Recipe recipe = TinyRecipe(precision, 4, 2, 3);
    const auto train = [&](Communicator* dp) {
      ClipRank rank(recipe, dp);
      rank.store.Initialize(9);
      for (int step = 0; step < 3; ++step) rank.TrainStep(step, rank.RandomBatches(step), 1e-3);
      return rank.ValueBytes();
    };
    const std::string alone = train(nullptr);
    for (const int ranks : {2, 3}) {
      const Status status = ThreadWorld(ranks, [&](Communicator& dp) {
        EXPECT_TRUE(train(&dp) == alone)
            << Precision_Name(precision) << " on " << ranks << " ranks";
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

TEST(ClipTrainingTest, NothingDrawsFromTheDefaultGenerator) {
  const at::Tensor before = at::detail::getDefaultCPUGenerator().get_state();
  ClipRank rank(TinyRecipe(BF16, 2, 1, 4), nullptr);
  rank.store.Initialize(1);
  rank.TrainStep(0, rank.RandomBatches(0), 1e-3);
  EXPECT_TRUE(at::equal(before, at::detail::getDefaultCPUGenerator().get_state()));
}

TEST(ClipTrainingTest, AFrozenTowerKeepsItsWeightsAndTheOtherTrains) {
  Recipe recipe = TinyRecipe(FP32, 1, 1, 4);
  recipe.add_trainable("transformer.*");
  recipe.add_trainable("text_projection");
  ClipRank rank(recipe, nullptr);
  rank.store.Initialize(1);
  const at::Tensor image = rank.store.Get("visual.proj")->value.clone();
  const at::Tensor scale = rank.store.Get("logit_scale")->value.clone();
  const at::Tensor text = rank.store.Get("text_projection")->value.clone();
  rank.TrainStep(0, rank.RandomBatches(0), 1e-3);
  EXPECT_TRUE(at::equal(image, rank.store.Get("visual.proj")->value));
  EXPECT_TRUE(at::equal(scale, rank.store.Get("logit_scale")->value));
  EXPECT_FALSE(at::equal(text, rank.store.Get("text_projection")->value));
}

TEST(ClipTrainingTest, ANonFiniteLossNamesStepAndTerm) {
  ClipRank rank(TinyRecipe(FP32, 1, 1, 4), nullptr);
  rank.store.Initialize(1);
  at::NoGradGuard no_grad;
  rank.store.Get("visual.proj")->value.fill_(std::nan(""));
  const StatusOr<StepOutput> output = rank.engine.RunStep(33, rank.RandomBatches(0));
  ASSERT_FALSE(output.ok());
  EXPECT_NE(output.status().message().find("step 33"), std::string::npos);
  EXPECT_NE(output.status().message().find("contrastive"), std::string::npos);
}

}  // namespace
}  // namespace weft::testing
