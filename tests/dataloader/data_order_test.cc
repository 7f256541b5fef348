// What `weft data order` prints is what loaders take; what it proves fails where a sample is missing or comes twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "cli/data_command.h"
#include "cluster/base/logging.h"
#include "cluster/config/recipe_loader.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/order_proof.h"
#include "dataloader/recipe_options.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

// Adds the samples [0, end) of an epoch, without one of them.
Status AddEpoch(uint64_t epoch, uint64_t end, uint64_t without, OrderProof* proof) {
  for (uint64_t id = 0; id < end; ++id) {
    if (id != without) WEFT_RETURN_IF_ERROR(proof->Add({0, epoch, id}));
  }
  return OkStatus();
}

TEST(OrderProof, CountsWholeAndOpenEpochs) {
  OrderProof proof({{"a", 5}, {"b", 1}});
  ASSERT_TRUE(AddEpoch(0, 5, 9, &proof).ok());
  ASSERT_TRUE(AddEpoch(1, 3, 9, &proof).ok());
  EXPECT_EQ(proof.LeastWhole(), 0u);
  ASSERT_TRUE(proof.Add({1, 0, 0}).ok());
  EXPECT_EQ(proof.LeastWhole(), 1u);
  EXPECT_FALSE(proof.Overtaken());
  EXPECT_TRUE(proof.CheckNoneMissing().ok());
  EXPECT_EQ(proof.epochs(0).whole, (std::set<uint64_t>{0}));
  EXPECT_EQ(proof.epochs(0).open.at(1).seen, 3u);
}

TEST(OrderProof, SaysWhichSampleComesTwice) {
  OrderProof proof({{"a", 5}});
  ASSERT_TRUE(AddEpoch(0, 5, 9, &proof).ok());
  ASSERT_TRUE(AddEpoch(1, 3, 9, &proof).ok());
  EXPECT_THAT(proof.Add({0, 1, 2}).message(), HasSubstr("epoch 1: sample 2 comes twice"));
  // Of an epoch that was whole.
  EXPECT_THAT(proof.Add({0, 0, 4}).message(), HasSubstr("epoch 0: sample 4 comes twice"));
}

TEST(OrderProof, SaysHowManyAreMissing) {
  OrderProof proof({{"a", 5}});
  ASSERT_TRUE(AddEpoch(0, 5, 3, &proof).ok());
  EXPECT_FALSE(proof.Overtaken());
  ASSERT_TRUE(AddEpoch(1, 5, 9, &proof).ok());
  EXPECT_TRUE(proof.Overtaken());
  EXPECT_THAT(proof.CheckNoneMissing().message(), HasSubstr("epoch 0: 1 of 5 samples"));
  ASSERT_TRUE(proof.Add({0, 0, 3}).ok());
  EXPECT_FALSE(proof.Overtaken());
  // None of epoch 2.
  ASSERT_TRUE(AddEpoch(3, 5, 9, &proof).ok());
  EXPECT_THAT(proof.CheckNoneMissing().message(), HasSubstr("epoch 2: 5 of 5 samples"));
}

// Two sets of conversations, with and without pictures, weights that change, grouped and balanced.
class DataOrder : public ::testing::Test {
 protected:
  DataOrder() {
    AddSet("seen", 90, 7);
    AddSet("told", 50, 2);
    const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    WriteBytes(dir_ / "vocab.txt", *vocabulary);
    WriteBytes(dir_ / "r.textproto", Recipe());
  }

  std::string Recipe() const {
    return R"(
steps: 40
seed: 3
model { llava {
  image_size: 28 patch_size: 14 vision_width: 24 vision_layers: 3 vision_heads: 4
  width: 32 layers: 2 heads: 4 kv_heads: 2 ffn: 64 vocab_size: 259 max_length: 96
} }
batch { slots: 4 micro_batches: 1 micro_batch_size: 2 }
data {
  sets { name: "seen" shards: ")" +
           (dir_ / "seen.tar") + R"(" weight: 2 }
  sets { name: "told" shards: ")" +
           (dir_ / "told.tar") + R"(" weight: 1 }
  mix { segments { from_step: 9 weights: [1, 1] } }
  batcher { group: PICTURES bucket: 48 }
  balance { group: 2 moved: 0.1 }
  order { chunk: 4 window: 2 }
  conversation { version: V1 system: "Talk." }
  vocabulary: ")" +
           (dir_ / "vocab.txt") + R"("
}
optimizer { lr: 1e-3 }
)";
  }

  void AddSet(const std::string& name, int count, int every) {
    auto samples = MakeSamples(0, count, 16);
    for (int i = 0; i < count; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      const bool picture = i % every != 1;
      members["json"] = R"({"conversations": [{"from": "human", "value": ")" +
                        std::string(picture ? "<image>\\n" : "") +
                        R"(Hm?"}, {"from": "gpt", "value": ")" + std::string(i % 9 + 1, 'a') +
                        R"("}]})";
      members.erase("txt");
      if (!picture) members.erase("jpg");
    }
    WriteShard(dir_ / (name + ".tar"), samples);
  }

  // Exit code and what was printed.
  std::pair<int, std::string> Run(std::vector<std::string> args) {
    args.insert(args.begin(), {"order", dir_ / "r.textproto"});
    ::testing::internal::CaptureStdout();
    const int code = DataCommand(args);
    return {code, ::testing::internal::GetCapturedStdout()};
  }

  const testing::TempDir dir_;
};

TEST_F(DataOrder, IsWhatALoaderTakes) {
  const auto loaded = LoadRecipe({.path = dir_ / "r.textproto"});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  auto options = LoaderOptionsOf(loaded->recipe);
  ASSERT_TRUE(options.ok()) << options.status();
  options->slots = {0, 1, 2, 3};
  options->first_step = 5;
  options->end_step = 13;
  auto loader = Loader::Open(*options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  const auto [code, text] = Run({"--step", "5", "--steps", "8"});
  ASSERT_EQ(code, 0);
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  std::set<std::string> sets;
  for (int64_t i = 0; i < 8 * 4; ++i) {
    const auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (int row = 0; row < 2; ++row) {
      ASSERT_TRUE(std::getline(lines, line));
      std::istringstream words(line);
      int64_t step = 0;
      int64_t slot = 0;
      int64_t at = 0;
      int64_t epoch = 0;
      int64_t id = 0;
      std::string set;
      words >> step >> slot >> at >> epoch >> id >> set;
      EXPECT_EQ(std::tuple(step, slot, at), std::tuple(batch->step, int64_t{batch->slot}, row));
      EXPECT_EQ(id, batch->sample_ids[static_cast<size_t>(row)]) << line;
      const int64_t in_set = set == "told" ? id - 90 : id;
      char key[16];
      std::snprintf(key, sizeof key, "'s%06d'", static_cast<int>(in_set));
      EXPECT_THAT(line, HasSubstr(set + ".tar, sample " + key));
      sets.insert(set);
    }
  }
  EXPECT_FALSE(std::getline(lines, line));
  EXPECT_EQ(sets.size(), 2u);
}

TEST_F(DataOrder, ShowsOnePlace) {
  const auto [code, text] = Run({"--step", "30", "--slot", "2", "--row", "1"});
  EXPECT_EQ(code, 0);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("      30     2     1 "));
  EXPECT_EQ(Run({"--slot", "4"}).first, 2);
}

TEST_F(DataOrder, ProvesEachSetAndEpoch) {
  const auto [code, text] = Run({"--prove"});
  EXPECT_EQ(code, 0);
  EXPECT_THAT(text, HasSubstr("steps 0 to 39, 320 samples:\n"));
  EXPECT_THAT(text, HasSubstr("set seen: each of 90 samples comes exactly once in each of 1 epochs "
                              "(0 to 0); "));
  EXPECT_THAT(text, HasSubstr("set told: each of 50 samples comes exactly once in each of 2 epochs "
                              "(0 to 1); "));
  EXPECT_THAT(text, HasSubstr(" of epoch 1, none twice"));
  EXPECT_THAT(text, HasSubstr(" mixed\n"));
  // From the middle: epochs that began before are open.
  const auto [late, rest] = Run({"--prove", "--step", "11", "--steps", "3"});
  EXPECT_EQ(late, 0);
  EXPECT_THAT(rest, HasSubstr("set seen: no whole epoch; "));
}

}  // namespace
}  // namespace weft
