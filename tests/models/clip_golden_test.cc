// The golden values of CLIP (an OpenAI model.py in float64 with the golden fill), on one rank.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/clip/clip.h"
#include "tests/models/clip_fixture.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

constexpr double kDigits = 6e-9;  // eight decimals are given

std::unique_ptr<ClipRank> GoldenRank(int slots, int micro_batches) {
  auto rank = std::make_unique<ClipRank>(GoldenRecipe(slots, micro_batches), nullptr);
  rank->store.FillAll(GoldenFill);
  return rank;
}

void ExpectRow(const at::Tensor& row, std::initializer_list<double> expected) {
  int64_t i = 0;
  for (const double value : expected) EXPECT_NEAR(row[i++].item<double>(), value, kDigits);
}

TEST(GoldenFillTest, MatchesThePublishedSelfTest) {
  EXPECT_EQ(GoldenUniform("abc", 0), 0.16362261886774687);
  EXPECT_EQ(GoldenUniform("abc", 2), 0.009036295911877046);
  EXPECT_EQ(GoldenInput("img_feat", 1)[0], -0.8683638130850329);
  ParamSpec gain;
  gain.name = "x.LayerNorm.weight";
  gain.shape = {2};
  EXPECT_EQ(GoldenParam(gain, 0), 1.0960905221490598);
}

TEST(ClipGoldenTest, Features) {
  const auto rank = GoldenRank(1, 1);
  const NamedTensors batch = rank->GoldenBatches()[0];
  const at::Tensor images = EncodeImages(rank->model.get(), batch.at("pixels"));
  const at::Tensor texts = EncodeTexts(rank->model.get(), batch.at("ids"), batch.at("eot"));
  ExpectRow(images[0], {0.01463230, -0.40819705, -0.07580818, 0.45221679});
  ExpectRow(texts[0], {0.11578235, 0.13866960, 0.15031156, 0.26310552});
  const at::Tensor logits = at::mm(images, texts.t()) / 0.07;
  ExpectRow(logits[0], {1.49392709, -2.80857144, -0.70477274, 0.61728914});
  ExpectRow(logits[1], {1.58860085, -2.40248815, -0.83632030, 0.70819948});
  ExpectRow(logits[2], {1.91609676, -2.30054686, -0.41107945, 1.12137711});
  ExpectRow(logits[3], {1.40209279, -2.62371929, -0.78172615, 0.51956964});
}

TEST(ClipGoldenTest, LossAndGradients) {
  const auto rank = GoldenRank(1, 1);
  const StepOutput output = rank->Gradients(0, rank->GoldenBatches());
  EXPECT_NEAR(output.loss, 1.81061593, kDigits);
  EXPECT_NEAR(rank->norm, 25.62521651, kDigits);
  const auto norm = [&](const std::string& name) {
    return rank->Gradient(name).norm().item<double>();
  };
  EXPECT_NEAR(rank->Gradient("logit_scale").item<double>(), 0.69625539, kDigits);
  EXPECT_NEAR(norm("visual.proj"), 7.87373458, kDigits);
  EXPECT_NEAR(norm("text_projection"), 8.02950631, kDigits);
  EXPECT_NEAR(norm("visual.conv1.weight"), 0.87060999, kDigits);
  EXPECT_NEAR(norm("token_embedding.weight"), 7.11461940, kDigits);
  EXPECT_NEAR(norm("visual.positional_embedding"), 4.64740330, kDigits);
}

TEST(ClipGoldenTest, FiveSteps) {
  const auto rank = GoldenRank(1, 1);
  const double losses[] = {1.81061593, 3.65741831, 2.01898256, 1.54882153, 1.39833833};
  for (int step = 0; step < 5; ++step) {
    const double loss = rank->TrainStep(step, rank->GoldenBatches(), 1e-3).loss;
    EXPECT_NEAR(loss, losses[step], 2 * kDigits) << "step " << step;
  }
  EXPECT_NEAR(rank->store.Get("logit_scale")->value.item<double>(), 2.65509577, kDigits);
}

}  // namespace
}  // namespace weft::testing
