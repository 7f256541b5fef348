// A shard of conversations that are packed into rows, and the options to load it: for tests of the tables and of the loader.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dataloader/bpe_trainer.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"
#include "dataloader/loader.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {

// Conversations of many lengths; every third is text only. A token is a byte, a picture four positions.
class ConversationPacksTest : public ::testing::Test {
 protected:
  static constexpr int kSamples = 1100;
  static constexpr int kRow = 96;
  static constexpr int kPatches = 4;
  static constexpr int kPictures = 3;
  // "<s>USER: Hello? ASSISTANT:" or with "####\nWhat?", " ", the answer, "</s>".
  static constexpr int kTextOnly = 1 + 23 + 1 + 1;
  static constexpr int kSeeing = 1 + 6 + kPatches + 6 + 11 + 1 + 1;

  void SetUp() override {
    const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
    ASSERT_TRUE(vocabulary.ok());
    WriteBytes(Path("vocab.txt"), *vocabulary);
    samples_ = MakeSamples(0, kSamples, 20);
    for (int i = 0; i < kSamples; ++i) SetAnswer(i, 4 + i * i % 37);
    options_.family = SampleFamily::kConversation;
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.set_loader_threads(3);
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    options_.data.mutable_conversation()->set_pack(true);
    options_.batch.set_slots(2);
    options_.batch.set_micro_batch_size(4);
    options_.seed = 5;
    options_.image_size = 12;
    options_.patches = kPatches;
    options_.pictures = kPictures;
    options_.context_length = kRow;
    options_.slots = {0, 1};
    options_.data.add_train_shards(Path("train.tar"));
    options_.data.add_eval_shards(Path("train.tar"));
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  static std::string Turns(const std::string& question, const std::string& answer) {
    return R"({"conversations": [{"from": "human", "value": ")" + question +
           R"("}, {"from": "gpt", "value": ")" + answer + "\"}]}";
  }
  static bool Seeing(int i) { return i % 3 != 2; }
  // Letters of the sample's own, so that a row says who is in it.
  static std::string Answer(int i, int length) {
    std::string text = std::to_string(i);
    text.resize(static_cast<size_t>(length), 'x');
    return text;
  }
  void SetAnswer(int i, int length) {
    std::map<std::string, std::string>& members = samples_[static_cast<size_t>(i)].second;
    members["json"] = Turns(Seeing(i) ? "<image>\\nWhat?" : "Hello?", Answer(i, length));
    if (!Seeing(i)) members.erase("jpg");
    lengths_[i] = std::min(kRow, (Seeing(i) ? kSeeing : kTextOnly) + length);
  }
  void Write() const { WriteShard(Path("train.tar"), samples_); }

  StatusOr<ConversationPacks> Packs() const {
    WEFT_ASSIGN_OR_RETURN(const ConversationSet set,
                          ConversationSet::Open(options_, SampleUse::kTrain));
    return ConversationPacks::Open(set);
  }
  // Of a shard of a mix.
  ConversationPacks Packs(const std::string& shard) const {
    LoaderOptions options = options_;
    options.data.clear_sets();
    options.data.add_train_shards(Path(shard + ".tar"));
    const auto set = ConversationSet::Open(options, SampleUse::kTrain);
    EXPECT_TRUE(set.ok()) << set.status();
    return std::move(*ConversationPacks::Open(*set));
  }
  std::string Fingerprint() const {
    const auto packs = Packs();
    EXPECT_TRUE(packs.ok()) << packs.status();
    return packs.ok() ? packs->fingerprint() : "";
  }
  std::vector<std::string> PackFiles() const {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(Path(".weft"))) {
      if (entry.path().extension() == ".pack") files.push_back(entry.path());
    }
    return files;
  }
  // All members by pack; checks the limits, the groups and the exact lengths.
  std::vector<std::set<int>> Check(const ConversationPacks& packs) const {
    std::vector<std::set<int>> rows;
    for (int64_t id = 0; id < packs.num_packs(); ++id) {
      const ConversationPacks::View row = packs.Find(id);
      std::set<int>& members = rows.emplace_back();
      int tokens = 0;
      int pictures = 0;
      for (const PackMember& member : row.members) {
        const auto i = static_cast<int>(member.sample);
        EXPECT_EQ(member.tokens, lengths_.at(i)) << i;
        EXPECT_EQ(i / 512, static_cast<int>(row.members[0].sample) / 512);
        members.insert(i);
        tokens += static_cast<int>(member.tokens);
        pictures += Seeing(i) ? 1 : 0;
      }
      EXPECT_LE(tokens, kRow);
      EXPECT_LE(pictures, kPictures);
      EXPECT_EQ(row.pack->tokens, tokens);
      EXPECT_EQ(row.pack->pictures, pictures);
    }
    return rows;
  }

  testing::TempDir dir_;
  std::vector<TestSample> samples_;
  std::map<int, int> lengths_;
  LoaderOptions options_;
};

}  // namespace weft
