// The golden values of RoBERTa (Hugging Face's RobertaForMaskedLM in float64 with the golden fill): on one rank, and on
// tensor-parallel ranks with and without sequence parallelism.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/base/logging.h"
#include "models/roberta/roberta.h"
#include "models/spec/model_spec.h"
#include "parallel/data/grad_norm.h"
#include "tests/support/golden.h"
#include "tests/support/thread_world.h"
#include "worker/rank_state.h"

namespace weft::testing {
namespace {

// Two samples of six tokens; 40 is <mask>.
NamedTensors GoldenBatch() {
  return {{"ids", at::tensor({0, 5, 40, 9, 12, 2, 0, 11, 40, 2, 1, 1}, at::kInt).view({2, 6})},
          {"mask", at::tensor({1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}, at::kByte).view({2, 6})},
          {"labels",
           at::tensor({-100, -100, 7, -100, 12, -100, -100, -100, 30, -100, -100, -100}, at::kInt)
               .view({2, 6})}};
}

// Vocabulary 41, width 16, 2 layers, 4 heads, ffn 32, 14 positions; fairseq's Adam, decay on everything.
Recipe GoldenRecipe(int tp, bool sequence) {
  Recipe recipe;
  RobertaModel* roberta = recipe.mutable_model()->mutable_roberta();
  roberta->set_max_length(6);
  roberta->set_vocab_size(41);
  roberta->set_width(16);
  roberta->set_layers(2);
  roberta->set_heads(4);
  roberta->set_ffn(32);
  roberta->set_position_rows(14);
  roberta->set_dropout(0);
  roberta->set_attention_dropout(0);
  recipe.set_precision(FP64);
  recipe.mutable_batch()->set_slots(1);
  recipe.mutable_batch()->set_micro_batches(1);
  recipe.mutable_batch()->set_micro_batch_size(2);
  OptimizerRecipe* optimizer = recipe.mutable_optimizer();
  optimizer->set_lr(1e-2);
  optimizer->set_beta1(0.9);
  optimizer->set_beta2(0.98);
  optimizer->set_eps(1e-6);
  optimizer->set_eps_hat(true);
  optimizer->set_weight_decay(0.01);
  recipe.mutable_layout()->set_tp(tp);
  recipe.mutable_layout()->set_sequence_parallel(sequence);
  return recipe;
}

std::unique_ptr<RankState> MakeRank(const Recipe& recipe, Communicator* tp) {
  StatusOr<ModelSpec> spec = MakeModelSpec(recipe);
  WEFT_CHECK_OK(spec.status());
  AxisCommunicators axes;
  axes.tp = tp;
  StatusOr<std::unique_ptr<RankState>> rank = RankState::Create(recipe, std::move(*spec), axes);
  WEFT_CHECK_OK(rank.status());
  (*rank)->parameters().FillAll(GoldenFill);
  WEFT_CHECK_OK((*rank)->parameters().Publish());
  return std::move(*rank);
}

// Loss and norm of one step, then the update.
std::pair<double, double> TrainStep(RankState* rank, int64_t step) {
  const std::vector<NamedTensors> batches = {GoldenBatch()};
  StatusOr<StepOutput> output = rank->engine().RunStep(step, batches);
  WEFT_CHECK_OK(output.status());
  WEFT_CHECK_OK(rank->gradients().Finish());
  StatusOr<double> norm =
      GradientNorm(rank->parameters(), rank->gradients(), &rank->parallel(), step);
  WEFT_CHECK_OK(norm.status());
  return {output->loss, *norm};
}

constexpr double kLosses[] = {3.7889907475261175, 3.1362556502432253, 2.8599290366199934,
                              2.596586700996505, 2.360026640401677};
constexpr double kNorm = 4.440093795768732;

void CheckFiveSteps(const Recipe& recipe, Communicator* tp) {
  const std::unique_ptr<RankState> rank = MakeRank(recipe, tp);
  for (int64_t step = 0; step < 5; ++step) {
    const auto [loss, norm] = TrainStep(rank.get(), step);
    EXPECT_NEAR(loss, kLosses[step], 1e-11) << "step " << step;
    if (step == 0) {
      EXPECT_NEAR(norm, kNorm, 1e-11);
    }
    WEFT_CHECK_OK(rank->optimizer().Step(1e-2, rank->gradients()));
  }
}

TEST(RobertaGoldenTest, Logits) {
  const std::unique_ptr<RankState> rank = MakeRank(GoldenRecipe(1, false), nullptr);
  const NamedTensors batch = GoldenBatch();
  const at::Tensor logits =
      PredictWords(&rank->model(), batch.at("ids"), batch.at("mask"), at::tensor({2}, at::kLong));
  const double expected[] = {0.18900852236896232, 0.4462239158572433, -0.14274012512078693,
                             -0.2887848092351393};
  for (int64_t i = 0; i < 4; ++i) EXPECT_NEAR(logits[0][i].item<double>(), expected[i], 1e-12);
}

struct GradNorm {
  const char* name;
  double norm;
};

constexpr GradNorm kGradNorms[] = {
    {"roberta.embeddings.word_embeddings.weight", 2.5952746649007876},
    {"roberta.embeddings.position_embeddings.weight", 1.2834954029434436},
    {"roberta.embeddings.token_type_embeddings.weight", 1.2461233091694615},
    {"roberta.embeddings.LayerNorm.weight", 0.13789684723407614},
    {"roberta.embeddings.LayerNorm.bias", 0.13666417566412276},
    {"roberta.encoder.layer.0.attention.self.query.weight", 0.001249621991625831},
    {"roberta.encoder.layer.0.attention.self.query.bias", 0.00027430637042858547},
    {"roberta.encoder.layer.0.attention.self.key.weight", 0.0013654990710656389},
    {"roberta.encoder.layer.0.attention.self.key.bias", 1.7276163084695052e-19},
    {"roberta.encoder.layer.0.attention.self.value.weight", 0.08621952818166638},
    {"roberta.encoder.layer.0.attention.self.value.bias", 0.029549359483458344},
    {"roberta.encoder.layer.0.attention.output.dense.weight", 0.07168048997665502},
    {"roberta.encoder.layer.0.attention.output.dense.bias", 0.1369025401434124},
    {"roberta.encoder.layer.0.attention.output.LayerNorm.weight", 0.1395265987056575},
    {"roberta.encoder.layer.0.attention.output.LayerNorm.bias", 0.14413298219847},
    {"roberta.encoder.layer.0.intermediate.dense.weight", 0.08112733883471435},
    {"roberta.encoder.layer.0.intermediate.dense.bias", 0.0209350840533252},
    {"roberta.encoder.layer.0.output.dense.weight", 0.08345585246384324},
    {"roberta.encoder.layer.0.output.dense.bias", 0.1428467035946037},
    {"roberta.encoder.layer.0.output.LayerNorm.weight", 0.13642269244748592},
    {"roberta.encoder.layer.0.output.LayerNorm.bias", 0.14065858456239344},
    {"roberta.encoder.layer.1.attention.self.query.weight", 0.0009819029636880475},
    {"roberta.encoder.layer.1.attention.self.query.bias", 0.00025543787771375363},
    {"roberta.encoder.layer.1.attention.self.key.weight", 0.0017094625905733044},
    {"roberta.encoder.layer.1.attention.self.key.bias", 2.3340265771061304e-19},
    {"roberta.encoder.layer.1.attention.self.value.weight", 0.11840696075714839},
    {"roberta.encoder.layer.1.attention.self.value.bias", 0.04062012193191919},
    {"roberta.encoder.layer.1.attention.output.dense.weight", 0.07909462123659693},
    {"roberta.encoder.layer.1.attention.output.dense.bias", 0.13844750754369045},
    {"roberta.encoder.layer.1.attention.output.LayerNorm.weight", 0.13813556859219778},
    {"roberta.encoder.layer.1.attention.output.LayerNorm.bias", 0.14296943377541435},
    {"roberta.encoder.layer.1.intermediate.dense.weight", 0.08424215676576417},
    {"roberta.encoder.layer.1.intermediate.dense.bias", 0.02151612681772124},
    {"roberta.encoder.layer.1.output.dense.weight", 0.08996833719487835},
    {"roberta.encoder.layer.1.output.dense.bias", 0.14284034069557358},
    {"roberta.encoder.layer.1.output.LayerNorm.weight", 0.16267461218877924},
    {"roberta.encoder.layer.1.output.LayerNorm.bias", 0.14541440966046615},
    {"lm_head.bias", 0.5594662638460428},
    {"lm_head.dense.weight", 2.9207636298153283},
    {"lm_head.dense.bias", 0.7248688601198479},
    {"lm_head.layer_norm.weight", 0.17864005299624597},
    {"lm_head.layer_norm.bias", 0.17433314598156072},
};

TEST(RobertaGoldenTest, GradientNorms) {
  const std::unique_ptr<RankState> rank = MakeRank(GoldenRecipe(1, false), nullptr);
  TrainStep(rank.get(), 0);
  for (const GradNorm& golden : kGradNorms) {
    const Parameter* parameter = rank->parameters().Get(golden.name);
    const at::Tensor shard = rank->gradients().shard(static_cast<size_t>(parameter->group));
    const double norm =
        shard.narrow(0, parameter->offset, parameter->spec.NumElements()).norm().item<double>();
    EXPECT_NEAR(norm, golden.norm, 1e-8 * golden.norm + 1e-15) << golden.name;
  }
}

TEST(RobertaGoldenTest, FiveStepsOfFairseqAdam) { CheckFiveSteps(GoldenRecipe(1, false), nullptr); }

TEST(RobertaGoldenTest, FiveStepsOnTensorParallelRanks) {
  for (const int ranks : {2, 4}) {
    for (const bool sequence : {false, true}) {
      const Status status = ThreadWorld(ranks, [&](Communicator& tp) {
        CheckFiveSteps(GoldenRecipe(ranks, sequence), &tp);
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

}  // namespace
}  // namespace weft::testing
