// Packed rows of LLaVA against the same conversations in rows of their own: loss and every gradient. Where a conversation's
// positions begin is RopeTest's: attention sees only differences of positions.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "models/llava/llava.h"
#include "tests/models/clip_fixture.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

constexpr int64_t kTokens = 24;
constexpr int64_t kPatches = 4;
constexpr int64_t kSide = 28;
constexpr int64_t kPictures = 3;
constexpr int kIgnore = -100;

struct Conversation {
  int64_t length = 0;
  bool picture = false;
};

using Row = std::vector<Conversation>;

// No picture, one, three; padding in two of them, and a row that is full.
const std::vector<Row> kRows = {{{7, false}, {9, false}},
                                {{5, false}, {10, true}, {4, false}},
                                {{8, true}, {9, true}, {7, true}}};

Recipe TinyLlava(int rows, bool pack) {
  Recipe recipe;
  LlavaModel* llava = recipe.mutable_model()->mutable_llava();
  llava->set_image_size(kSide);
  llava->set_patch_size(14);
  llava->set_vision_width(24);
  llava->set_vision_layers(3);
  llava->set_vision_heads(4);
  llava->set_vision_ffn(48);
  llava->set_max_length(kTokens);
  llava->set_vocab_size(50);
  llava->set_width(32);
  llava->set_layers(2);
  llava->set_heads(4);
  llava->set_kv_heads(2);
  llava->set_ffn(64);
  recipe.set_precision(FP64);
  recipe.mutable_batch()->set_micro_batch_size(rows);
  recipe.mutable_data()->mutable_conversation()->set_pack(pack);
  recipe.mutable_data()->mutable_conversation()->set_pack_pictures(pack ? kPictures : 0);
  return recipe;
}

NamedTensors EmptyBatch(int64_t rows) {
  const at::Tensor positions = at::arange(kTokens, at::kInt);
  return {{"pixels", at::zeros({rows, kPictures, 3, kSide, kSide}, at::kDouble)},
          {"ids", at::zeros({rows, kTokens}, at::kInt)},
          {"labels", at::full({rows, kTokens}, kIgnore, at::kInt)},
          {"segment_at", positions.expand({rows, kTokens}).contiguous()},
          {"image_at", at::full({rows, kPictures}, -1, at::kInt)}};
}

// Puts conversation `number` at `begin` of row `row`: its first token and its picture, behind that, have no labels.
void Place(const Conversation& talk, int number, int64_t row, int64_t begin, int64_t* pictures,
           NamedTensors* batch) {
  if (talk.picture) {
    (*batch)["pixels"][row][*pictures] = at::arange(3 * kSide * kSide, at::kDouble)
                                             .mul(0.7 + 0.1 * number)
                                             .sin()
                                             .view({3, kSide, kSide});
    (*batch)["image_at"][row][(*pictures)++] = begin + 1;
  }
  (*batch)["segment_at"][row].narrow(0, begin, talk.length).fill_(begin);
  for (int64_t k = 0; k < talk.length; ++k) {
    const bool word = k == 0 || !talk.picture || k > kPatches;
    if (!word) continue;
    const int64_t id = k == 0 ? 1 : 3 + (17 * number + 5 * k) % 47;
    (*batch)["ids"][row][begin + k] = id;
    if (k > 0) (*batch)["labels"][row][begin + k] = id;
  }
}

NamedTensors PackedBatch() {
  NamedTensors batch = EmptyBatch(static_cast<int64_t>(kRows.size()));
  int number = 0;
  for (size_t row = 0; row < kRows.size(); ++row) {
    int64_t begin = 0;
    int64_t pictures = 0;
    for (const Conversation& talk : kRows[row]) {
      Place(talk, number++, static_cast<int64_t>(row), begin, &pictures, &batch);
      begin += talk.length;
    }
  }
  return batch;
}

int NumConversations() {
  int count = 0;
  for (const Row& row : kRows) count += static_cast<int>(row.size());
  return count;
}

// A row each, with a mask and room for one picture.
NamedTensors PlainBatch() {
  NamedTensors batch = EmptyBatch(NumConversations());
  at::Tensor mask = at::zeros({NumConversations(), kTokens}, at::kByte);
  int number = 0;
  for (const Row& row : kRows) {
    for (const Conversation& talk : row) {
      int64_t pictures = 0;
      mask[number].narrow(0, 0, talk.length).fill_(1);
      Place(talk, number, number, 0, &pictures, &batch);
      ++number;
    }
  }
  batch["pixels"] = batch["pixels"].select(1, 0).contiguous();
  batch["image_at"] = batch["image_at"].select(1, 0).contiguous();
  batch["mask"] = mask;
  batch.erase("segment_at");
  return batch;
}

std::unique_ptr<ClipRank> RankOf(const Recipe& recipe) {
  auto rank = std::make_unique<ClipRank>(recipe, nullptr);
  rank->store.FillAll(GoldenFill);
  return rank;
}

std::unique_ptr<ClipRank> PackedRank() {
  return RankOf(TinyLlava(static_cast<int>(kRows.size()), true));
}

double RelativeError(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item<double>() / b.norm().item<double>();
}

TEST(LlavaPackTest, LossAndGradientsAreThoseOfSeparateRows) {
  const auto packed = PackedRank();
  const auto plain = RankOf(TinyLlava(NumConversations(), false));
  const double loss_sum =
      RunLlava(&packed->state->model(), PackedBatch()).at("loss.lm").item<double>();
  const double expected =
      RunLlava(&plain->state->model(), PlainBatch()).at("loss.lm").item<double>();
  EXPECT_NEAR(loss_sum / expected, 1, 1e-12);
  packed->Gradients(0, {PackedBatch()});
  plain->Gradients(0, {PlainBatch()});
  for (const auto& parameter : plain->store.parameters()) {
    const std::string& name = parameter->spec.name;
    if (name.ends_with("k_proj.bias")) {
      // A softmax does not see it: zero, but for rounding.
      EXPECT_LT(packed->Gradient(name).norm().item<double>(), 1e-15) << name;
      continue;
    }
    EXPECT_GT(plain->Gradient(name).norm().item<double>(), 1e-6) << name;
    EXPECT_LT(RelativeError(packed->Gradient(name), plain->Gradient(name)), 1e-12) << name;
  }
}

// A mean of each micro-batch first: micro-batches of one packed row have different numbers of targets.
TEST(LlavaPackTest, TheMeanOfAMicroBatchIsOverItsTargets) {
  Recipe recipe = TinyLlava(1, true);
  recipe.set_loss_mean(PER_MICRO_BATCH);
  recipe.mutable_batch()->set_micro_batches(static_cast<int>(kRows.size()));
  const auto rank = RankOf(recipe);
  const NamedTensors whole = PackedBatch();
  std::vector<NamedTensors> batches;
  double expected = 0;
  for (int64_t row = 0; row < static_cast<int64_t>(kRows.size()); ++row) {
    NamedTensors batch;
    for (const auto& [name, tensor] : whole) batch[name] = tensor.narrow(0, row, 1);
    const auto targets = (batch["labels"] != kIgnore).sum().item<double>();
    expected += RunLlava(&rank->state->model(), batch).at("loss.lm").item<double>() / targets;
    batches.push_back(batch);
  }
  EXPECT_NEAR(rank->Gradients(0, batches).loss, expected / static_cast<double>(kRows.size()),
              1e-12);
}

// What stands behind the last conversation, and in the places of pictures that are not there, changes nothing.
TEST(LlavaPackTest, NobodySeesPaddingOrAbsentPictures) {
  const auto rank = PackedRank();
  NamedTensors batch = PackedBatch();
  const auto loss = [&] {
    return RunLlava(&rank->state->model(), batch).at("loss.lm").item<double>();
  };
  const double before = loss();
  batch["ids"][0].narrow(0, 16, 8).fill_(33);
  batch["pixels"][0].fill_(0.5);
  batch["pixels"][1].narrow(0, 1, 2).fill_(0.5);
  EXPECT_EQ(loss(), before);
  batch["pixels"][1][0].fill_(0.5);
  EXPECT_NE(loss(), before);
}

// What a conversation makes does not depend on its neighbours: not on their words, and not on where it stands.
TEST(LlavaPackTest, ConversationsDoNotSeeEachOther) {
  const auto rank = PackedRank();
  NamedTensors batch = PackedBatch();
  const at::Tensor before = RunLlava(&rank->state->model(), batch).at("logits")[2];
  batch["ids"][2][0] = 40;
  const at::Tensor after = RunLlava(&rank->state->model(), batch).at("logits")[2];
  EXPECT_FALSE(at::equal(after.narrow(0, 0, 8), before.narrow(0, 0, 8)));
  EXPECT_TRUE(at::equal(after.narrow(0, 8, 16), before.narrow(0, 8, 16)));
}

}  // namespace
}  // namespace weft::testing
