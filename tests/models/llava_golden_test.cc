// LLaVA against the reference's numbers: features, loss, the gradient of every parameter, and four steps of both stages.
#include "models/llava/llava.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/models/clip_fixture.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

constexpr double kDigits = 1e-12;

const std::vector<std::string> kStage1 = {"multi_modal_projector.*"};
const std::vector<std::string> kStage2 = {"multi_modal_projector.*", "language_model.*"};

Recipe TinyLlava(const std::vector<std::string>& trainable) {
  Recipe recipe;
  LlavaModel* llava = recipe.mutable_model()->mutable_llava();
  llava->set_image_size(28);
  llava->set_patch_size(14);
  llava->set_vision_width(24);
  llava->set_vision_layers(3);
  llava->set_vision_heads(4);
  llava->set_vision_ffn(48);
  llava->set_max_length(10);
  llava->set_vocab_size(50);
  llava->set_width(32);
  llava->set_layers(2);
  llava->set_heads(4);
  llava->set_kv_heads(2);
  llava->set_ffn(64);
  llava->set_norm_eps(1e-6);
  for (const std::string& pattern : trainable) recipe.add_trainable(pattern);
  recipe.set_precision(FP64);
  recipe.mutable_batch()->set_micro_batch_size(2);
  OptimizerRecipe* optimizer = recipe.mutable_optimizer();
  optimizer->set_lr(1e-2);
  optimizer->set_beta2(0.999);
  optimizer->set_eps(1e-8);
  optimizer->set_weight_decay(0);
  return recipe;
}

// The picture's placeholder, id 48 of the reference, is already four positions wide.
NamedTensors GoldenBatch() {
  const at::Tensor pixels =
      at::tensor(GoldenInput("image", 2 * 3 * 28 * 28), at::kDouble).view({2, 3, 28, 28});
  const at::Tensor ids = at::tensor({1, 5, 0, 0, 0, 0, 7, 9, 12, 2,  //
                                     1, 0, 0, 0, 0, 8, 3, 2, 0,  0},
                                    at::kInt);
  const int no = -100;
  const at::Tensor labels = at::tensor({no, no, no, no, no, no, no, 9, 12, 2,  //
                                        no, no, no, no, no, no, 3,  2, no, no},
                                       at::kInt);
  const at::Tensor mask = at::tensor({1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                      1, 1, 1, 1, 1, 1, 1, 1, 0, 0},
                                     at::kByte);
  return {{"pixels", pixels},
          {"ids", ids.view({2, 10})},
          {"labels", labels.view({2, 10})},
          {"mask", mask.view({2, 10})},
          {"image_at", at::tensor({2, 1}, at::kInt)}};
}

std::unique_ptr<ClipRank> GoldenRank(const std::vector<std::string>& trainable) {
  auto rank = std::make_unique<ClipRank>(TinyLlava(trainable), nullptr);
  rank->store.FillAll(GoldenFill);
  return rank;
}

void ExpectRow(const at::Tensor& row, std::initializer_list<double> expected) {
  int64_t i = 0;
  for (const double value : expected) EXPECT_NEAR(row[i++].item<double>(), value, kDigits);
}

TEST(LlavaGoldenTest, FeaturesAndLogits) {
  const auto rank = GoldenRank({});
  const NamedTensors made = RunLlava(&rank->state->model(), GoldenBatch());
  // Behind the class token.
  const at::Tensor tower = made.at("vision_tower.vision_model.encoder.layers.1.out");
  ExpectRow(tower[0][1], {-0.6547466287630755, 1.0893711771004828, -0.734727351055881});
  ExpectRow(made.at("image_tokens")[0][0],
            {-0.06136300953560943, -0.046250368071246606, -0.05126892958606369});
  ExpectRow(made.at("logits")[0][9],
            {0.39285282311267494, -0.30240448257767827, 0.3116480288896018, 0.2900058921805327});
  // The sum over the five supervised tokens.
  EXPECT_NEAR(made.at("loss.lm").item<double>() / 5, 3.7541764264668913, kDigits);
}

TEST(LlavaGoldenTest, LossAndGradients) {
  const auto rank = GoldenRank(kStage2);
  const StepOutput output = rank->Gradients(0, {GoldenBatch()});
  EXPECT_NEAR(output.loss, 3.7541764264668913, kDigits);
  EXPECT_NEAR(rank->norm, 4.7887136151318614, kDigits);
  const std::map<std::string, double> norms = {
      {"language_model.model.embed_tokens.weight", 1.5791264164586032},
      {"language_model.model.layers.0.self_attn.q_proj.weight", 0.10709483620605299},
      {"language_model.model.layers.0.self_attn.k_proj.weight", 0.12303082282007978},
      {"language_model.model.layers.0.self_attn.v_proj.weight", 1.2044715774045531},
      {"language_model.model.layers.0.self_attn.o_proj.weight", 1.8696008335573666},
      {"language_model.model.layers.0.mlp.gate_proj.weight", 0.6512149685357043},
      {"language_model.model.layers.0.mlp.up_proj.weight", 0.5457642671786543},
      {"language_model.model.layers.0.mlp.down_proj.weight", 0.6095160360136552},
      {"language_model.model.layers.0.input_layernorm.weight", 0.061843867769207105},
      {"language_model.model.layers.0.post_attention_layernorm.weight", 0.04550687812785903},
      {"language_model.model.layers.1.self_attn.q_proj.weight", 0.06021915580083812},
      {"language_model.model.layers.1.self_attn.k_proj.weight", 0.06416807264536308},
      {"language_model.model.layers.1.self_attn.v_proj.weight", 1.56538217758047},
      {"language_model.model.layers.1.self_attn.o_proj.weight", 1.4591835413513523},
      {"language_model.model.layers.1.mlp.gate_proj.weight", 0.5678032158049178},
      {"language_model.model.layers.1.mlp.up_proj.weight", 0.5968384926227394},
      {"language_model.model.layers.1.mlp.down_proj.weight", 0.7155605931276859},
      {"language_model.model.layers.1.input_layernorm.weight", 0.06701805154924059},
      {"language_model.model.layers.1.post_attention_layernorm.weight", 0.04359077153034885},
      {"language_model.model.norm.weight", 0.128696144721131},
      {"multi_modal_projector.linear_1.weight", 0.5252482170536809},
      {"multi_modal_projector.linear_1.bias", 0.1481059371045939},
      {"multi_modal_projector.linear_2.weight", 0.5085997795772425},
      {"multi_modal_projector.linear_2.bias", 0.7997076909112266},
      {"language_model.lm_head.weight", 2.7145940838046063},
  };
  for (const auto& [name, norm] : norms)
    EXPECT_NEAR(rank->Gradient(name).norm().item<double>(), norm, kDigits) << name;
  for (const auto& parameter : rank->store.parameters()) {
    const bool tower = parameter->spec.name.starts_with("vision_tower.");
    EXPECT_EQ(norms.count(parameter->spec.name), tower ? 0 : 1) << parameter->spec.name;
    EXPECT_EQ(parameter->main_grad.defined(), !tower) << parameter->spec.name;
  }
}

void ExpectSteps(const std::vector<std::string>& trainable, std::initializer_list<double> losses) {
  const auto rank = GoldenRank(trainable);
  int64_t step = 0;
  for (const double loss : losses) {
    EXPECT_NEAR(rank->TrainStep(step, {GoldenBatch()}, 1e-2).loss, loss, kDigits)
        << "step " << step;
    ++step;
  }
}

TEST(LlavaGoldenTest, FourStepsOfStage1) {
  ExpectSteps(kStage1,
              {3.7541764264668913, 3.5544060788276597, 3.453895665074527, 3.382666099860695});
}

TEST(LlavaGoldenTest, FourStepsOfStage2) {
  ExpectSteps(kStage2,
              {3.7541764264668913, 2.9017604162628245, 2.3933748777948445, 2.0257303260252});
}

TEST(LlavaTest, Stage1ChangesTheProjectorOnly) {
  const auto rank = GoldenRank(kStage1);
  std::map<std::string, at::Tensor> before;
  for (const auto& parameter : rank->store.parameters())
    before[parameter->spec.name] = parameter->value.clone();
  rank->TrainStep(0, {GoldenBatch()}, 1e-2);
  for (const auto& parameter : rank->store.parameters()) {
    const std::string& name = parameter->spec.name;
    EXPECT_EQ(at::equal(parameter->value, before[name]),
              !name.starts_with("multi_modal_projector."))
        << name;
  }
}

// Without images the projector's gradient is zero, not missing, and pixels do not matter.
TEST(LlavaTest, AMicroBatchWithoutImages) {
  NamedTensors batch = GoldenBatch();
  batch["image_at"] = at::tensor({-1, -1}, at::kInt);
  const auto rank = GoldenRank(kStage2);
  const double loss = rank->Gradients(0, {batch}).loss;
  EXPECT_EQ(rank->Gradient("multi_modal_projector.linear_1.weight").abs().max().item<double>(), 0);
  EXPECT_GT(rank->Gradient("language_model.model.norm.weight").norm().item<double>(), 0.01);
  batch["pixels"] = at::zeros_like(batch["pixels"]);
  EXPECT_EQ(rank->Gradients(0, {batch}).loss, loss);
  EXPECT_NE(rank->Gradients(0, {GoldenBatch()}).loss, loss);
}

// Tokens behind the end of a row, and what stands there, change nothing.
TEST(LlavaTest, PaddingIsNotSeen) {
  const auto rank = GoldenRank(kStage2);
  NamedTensors batch = GoldenBatch();
  const double loss = rank->Gradients(0, {batch}).loss;
  batch["ids"].select(0, 1).narrow(0, 8, 2).fill_(33);
  EXPECT_EQ(rank->Gradients(0, {batch}).loss, loss);
  batch["ids"][1][6] = 33;
  EXPECT_NE(rank->Gradients(0, {batch}).loss, loss);
}

// A picture at the row's end loses the patches that do not fit.
TEST(LlavaTest, AnImageIsCutAtTheEndOfItsRow) {
  const auto rank = GoldenRank({});
  NamedTensors batch = GoldenBatch();
  batch["image_at"][0] = 8;
  const NamedTensors made = RunLlava(&rank->state->model(), batch);
  const at::Tensor embedded = made.at("language_model.model.embed_tokens.out");
  EXPECT_TRUE(at::equal(embedded[0].narrow(0, 8, 2), made.at("image_tokens")[0].narrow(0, 0, 2)));
  EXPECT_TRUE(at::equal(embedded[1].narrow(0, 1, 4), made.at("image_tokens")[1]));
}

}  // namespace
}  // namespace weft::testing
