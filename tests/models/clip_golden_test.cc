// The golden values of CLIP (an OpenAI model.py in float64 with the golden fill): on one rank, on two and four, with
// micro-batches, and with the forward run again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/base/mutex.h"
#include "models/clip/clip.h"
#include "tests/models/clip_fixture.h"
#include "tests/support/golden.h"
#include "tests/support/thread_world.h"

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
  const at::Tensor images = EncodeImages(&rank->state->model(), batch.at("pixels"));
  const at::Tensor texts = EncodeTexts(&rank->state->model(), batch.at("ids"), batch.at("eot"));
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
  // From PyTorch 2.11: the reference model in float64 under torch.optim.AdamW with decay 0.2 on matrices only.
  const double losses[] = {1.81061592626454, 3.65741831205555, 2.01898255865876, 1.54882154133465,
                           1.39833832545402};
  for (int step = 0; step < 5; ++step) {
    const double loss = rank->TrainStep(step, rank->GoldenBatches(), 1e-3).loss;
    EXPECT_NEAR(loss, losses[step], 1e-12) << "step " << step;
  }
  EXPECT_NEAR(rank->store.Get("logit_scale")->value.item<double>(), 2.65509577066374, 1e-12);
}

// Losses of five steps, the first step's gradients, and the state at the end.
struct Trajectory {
  std::vector<double> losses;
  std::map<std::string, at::Tensor> gradients;
  double norm = 0;
  std::string values;
};

Trajectory Train(const Recipe& recipe, Communicator* dp) {
  ClipRank rank(recipe, dp);
  rank.store.FillAll(GoldenFill);
  Trajectory result;
  for (int step = 0; step < 5; ++step) {
    const std::vector<NamedTensors> batches = rank.GoldenBatches();
    if (step == 0) {
      rank.Gradients(0, batches);
      result.norm = rank.norm;
      for (const auto& parameter : rank.store.parameters()) {
        result.gradients[parameter->spec.name] = rank.Gradient(parameter->spec.name).clone();
      }
    }
    result.losses.push_back(rank.TrainStep(step, batches, 1e-3).loss);
  }
  result.values = rank.ValueBytes();
  return result;
}

void ExpectNear(const Trajectory& a, const Trajectory& b, double tolerance) {
  for (size_t step = 0; step < 5; ++step) EXPECT_NEAR(a.losses[step], b.losses[step], tolerance);
  EXPECT_NEAR(a.norm, b.norm, tolerance);
  for (const auto& [name, gradient] : a.gradients) {
    EXPECT_LT((gradient - b.gradients.at(name)).abs().max().item<double>(), tolerance) << name;
  }
}

void ExpectSameBits(const Trajectory& a, const Trajectory& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norm, b.norm);
  for (const auto& [name, gradient] : a.gradients) {
    EXPECT_TRUE(at::equal(gradient, b.gradients.at(name))) << name;
  }
  EXPECT_TRUE(a.values == b.values);
}

TEST(ClipGoldenTest, TwoAndFourRanksHaveTheBitsOfOne) {
  const Trajectory whole = Train(GoldenRecipe(1, 1), nullptr);
  const Trajectory alone = Train(GoldenRecipe(4, 1), nullptr);
  ExpectNear(whole, alone, 1e-12);
  for (const int ranks : {2, 3, 4}) {
    Mutex mutex;
    const Status status = ThreadWorld(ranks, [&](Communicator& dp) {
      const Trajectory shared = Train(GoldenRecipe(4, 1), &dp);
      const MutexLock lock(mutex);
      SCOPED_TRACE(std::to_string(ranks) + " ranks, rank " + std::to_string(dp.rank()));
      ExpectSameBits(alone, shared);
      return OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
  }
}

TEST(ClipGoldenTest, MicroBatchesEqualOneBatchOfTheirSize) {
  const Trajectory whole = Train(GoldenRecipe(1, 1), nullptr);
  ExpectNear(whole, Train(GoldenRecipe(1, 2), nullptr), 1e-10);
  ExpectNear(whole, Train(GoldenRecipe(2, 2), nullptr), 1e-10);
}

TEST(ClipGoldenTest, RunningTheForwardAgainGivesTheSameBits) {
  for (const Precision precision : {FP64, FP32, BF16}) {
    Recipe recipe = GoldenRecipe(2, 2);
    recipe.set_precision(precision);
    const Trajectory kept = Train(recipe, nullptr);
    recipe.mutable_batch()->set_keep_wave(FEATURES);
    ExpectSameBits(kept, Train(recipe, nullptr));
  }
}

// What a data-parallel run would compute if features were gathered without gradients: each rank differentiates its own
// rows of both directions only. The tests above must be able to tell.
TEST(ClipGoldenTest, AWrongGatherWouldBeSeen) {
  const auto rank = GoldenRank(1, 1);
  const NamedTensors batch = rank->GoldenBatches()[0];
  const at::Tensor images = EncodeImages(&rank->state->model(), batch.at("pixels"));
  const at::Tensor texts = EncodeTexts(&rank->state->model(), batch.at("ids"), batch.at("eot"));
  const at::Tensor logits = at::mm(images, texts.t()) / 0.07;
  const at::Tensor eye = at::eye(4, at::kDouble);
  const at::Tensor rows = at::softmax(logits, 1) - eye;
  const at::Tensor columns = at::softmax(logits, 0) - eye;
  const at::Tensor truth = at::mm(rows + columns, texts) / (8 * 0.07);
  const at::Tensor wrong = at::mm(rows, texts) / (8 * 0.07);
  EXPECT_GT((truth - wrong).norm().item<double>(), 0.1 * truth.norm().item<double>());
  // And what the join computes is the truth.
  StepStore store;
  store.Put({"main", "image_features", 0, 0}, images);
  store.Put({"main", "text_features", 0, 0}, texts);
  JoinContext context;
  context.parallel = &rank->context;
  context.store = &store;
  rank->state->model().joins[0]->Begin();
  ASSERT_TRUE(rank->state->model().joins[0]->Run(&context).ok());
  const at::Tensor joined = store.Grad({"main", "image_features", 0, 0});
  EXPECT_LT((joined - truth).abs().max().item<double>(), 1e-13);
}

}  // namespace
}  // namespace weft::testing
