#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "cluster/base/file_system.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/text_packs.h"
#include "dataloader/text_shard.h"
#include "dataloader/token_mask.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::Test;

std::vector<std::string> Gpt2Words(std::string_view text) {
  std::vector<std::string> words;
  for (const std::string_view word : SplitGpt2Words(text)) words.emplace_back(word);
  return words;
}

TEST(Gpt2Words, AreThoseOfTheReferencePattern) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(Gpt2Words("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(Gpt2Words("it's 3.14, isn't it?"),
            (Words{"it", "'s", " 3", ".", "14", ",", " isn", "'t", " it", "?"}));
  EXPECT_EQ(Gpt2Words("a  b\n\nc \n"), (Words{"a", " ", " b", "\n", "\n", "c", " \n"}));
  EXPECT_EQ(Gpt2Words("caf\u00e9 \u00b2\u00bd \u4e2d\u6587!"),
            (Words{"caf\u00e9", " \u00b2\u00bd", " \u4e2d\u6587", "!"}));
  EXPECT_EQ(Gpt2Words(" 's 'S"), (Words{" '", "s", " '", "S"}));
  EXPECT_TRUE(Gpt2Words("").empty());
}

TEST(BpeStyles, HaveTheirSpecialIdsAndGiveTextBack) {
  for (const BpeStyle style : {BpeStyle::kRoberta, BpeStyle::kLlava}) {
    BpeTrainer trainer(style);
    for (int i = 0; i < 3; ++i) trainer.AddText("the cat sat on the mat; the cat's hat");
    const int size = BpeFixedEntries(style) + 10;
    const auto file = trainer.Train(size);
    ASSERT_TRUE(file.ok()) << file.status();
    const auto vocabulary = BpeVocabulary::Parse(*file, size, "trained", style);
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
    EXPECT_EQ((*vocabulary)->size(), size);
    const bool roberta = style == BpeStyle::kRoberta;
    EXPECT_EQ((*vocabulary)->start_id(), roberta ? 0 : 1);
    EXPECT_EQ((*vocabulary)->pad_id(), roberta ? 1 : 0);
    EXPECT_EQ((*vocabulary)->end_id(), 2);
    if (roberta) {
      EXPECT_EQ((*vocabulary)->mask_id(), size - 1);
    }
    BpeTokenizer tokenizer(**vocabulary);
    const std::string text = "The  cat\u2019s <mask> na\u00efve\n\xff bytes ";
    const std::vector<int> ids = tokenizer.Encode(text);
    EXPECT_EQ((*vocabulary)->Decode(ids), text);
    for (const int id : ids) {
      EXPECT_GE(id, roberta ? 4 : 3);
      EXPECT_LT(id, size - (roberta ? 1 : 0));
    }
    EXPECT_EQ(tokenizer.Encode(" the").size(), 1u);
    // Files of the other style are refused.
    EXPECT_NE(BpeVocabulary::Parse(*file, 514, "trained").status().message().find("--style clip"),
              std::string::npos);
    EXPECT_NE(BpeVocabulary::Parse("#v\nt h\nth e</w>\n", 0, "clip", style)
                  .status()
                  .message()
                  .find("--style"),
              std::string::npos);
  }
}

class TextTest : public Test {
 protected:
  void SetUp() override {
    BpeTrainer trainer(BpeStyle::kRoberta);
    trainer.AddText("a sentence of number words that is not the same as the other sentences");
    const auto file = trainer.Train(kVocabulary);
    ASSERT_TRUE(file.ok()) << file.status();
    WriteBytes(Path("vocab.txt"), *file);
    vocabulary_ = std::move(*BpeVocabulary::Parse(*file, kVocabulary, "v", BpeStyle::kRoberta));
  }

  static constexpr int kVocabulary = 261 + 20;

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  // Documents of a few sentences; some are long, one is longer than a block.
  static std::string Documents(int first, int count) {
    std::string text;
    for (int i = first; i < first + count; ++i) {
      for (int j = 0; j <= i % 4; ++j) {
        text += "sentence " + std::to_string(j) + " of number " + std::to_string(i);
        if (i % 7 == 0) text += " that is not the same as the other sentences";
        if (i == first + 5) text += std::string(200, 'x');
        text += "\n";
      }
      text += i % 5 == 0 ? "\n \n" : "\n";
    }
    return text;
  }

  StatusOr<std::unique_ptr<TextPacks>> Packs(const std::string& shard, int block) const {
    return TextPacks::Open(shard, *vocabulary_, {block, {"txt"}, ""});
  }

  std::vector<std::string> PackFiles() const {
    std::vector<std::string> packs;
    const auto names = PosixFileSystem()->ListDir(Path(".weft"));
    if (!names.ok()) return packs;
    for (const std::string& name : *names) {
      if (name.ends_with(".pack")) packs.push_back(name);
    }
    return packs;
  }

  testing::TempDir dir_;
  std::unique_ptr<BpeVocabulary> vocabulary_;
};

std::vector<std::string> SentencesOf(const std::string& path) {
  std::vector<std::string> sentences;
  const auto file = ShardFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  const Status status =
      ReadSentences(**file, {"txt"}, [&](std::string_view text) { sentences.emplace_back(text); });
  EXPECT_TRUE(status.ok()) << status;
  return sentences;
}

TEST_F(TextTest, PlainFilesAndTarsHoldTheSameDocuments) {
  using Sentences = std::vector<std::string>;
  WriteBytes(Path("a.txt"), "\n\n one \r\ntwo\n\n \t\n\nthree\nfour");
  EXPECT_EQ(SentencesOf(Path("a.txt")), (Sentences{"one", "two", "", "three", "four"}));
  WriteShard(Path("a.tar"), {{"a", {{"txt", "one\ntwo"}}}, {"b", {{"txt", "three\nfour\n\n"}}}});
  EXPECT_EQ(SentencesOf(Path("a.tar")), SentencesOf(Path("a.txt")));
  WriteBytes(Path("empty.txt"), "\n\n");
  EXPECT_TRUE(SentencesOf(Path("empty.txt")).empty());
  WriteShard(Path("no.tar"), {{"a", {{"jpg", "x"}}}});
  const auto file = ShardFile::Open(Path("no.tar"));
  EXPECT_EQ(ReadSentences(**file, {"txt"}, [](std::string_view) {}).code(),
            StatusCode::kCorruption);
}

TEST_F(TextTest, BlocksHoldWholeSentencesAndEveryTokenOnce) {
  WriteBytes(Path("a.txt"), Documents(0, 60));
  constexpr int kBlock = 48;
  const auto packs = Packs(Path("a.txt"), kBlock);
  ASSERT_TRUE(packs.ok()) << packs.status();
  BpeTokenizer tokenizer(*vocabulary_);
  std::vector<int32_t> expected;
  std::set<size_t> sentence_ends = {0};
  size_t longest = 0;
  for (const std::string& sentence : SentencesOf(Path("a.txt"))) {
    const size_t before = expected.size();
    tokenizer.EncodeTo(sentence, &expected);
    expected.push_back(2);
    longest = std::max(longest, expected.size() - before);
    // A sentence that no block can hold is cut.
    for (size_t at = before; at < expected.size(); at += kBlock - 1) sentence_ends.insert(at);
    sentence_ends.insert(expected.size());
  }
  EXPECT_GT(longest, size_t{kBlock});
  std::vector<int32_t> all;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < (*packs)->num_blocks(); ++i) {
    ASSERT_TRUE((*packs)->Read(i, &ids).ok());
    EXPECT_EQ(ids[0], 0);
    EXPECT_LE(ids.size(), size_t{kBlock});
    EXPECT_EQ(sentence_ends.count(all.size()), 1u) << i;
    all.insert(all.end(), ids.begin() + 1, ids.end());
    // The next sentence did not fit.
    if (i + 1 < (*packs)->num_blocks()) {
      const size_t next = *sentence_ends.upper_bound(all.size()) - all.size();
      EXPECT_GT(ids.size() + next, size_t{kBlock}) << i;
    }
  }
  EXPECT_EQ(all, expected);
  EXPECT_EQ((*packs)->num_tokens(), static_cast<int64_t>(expected.size()));
}

TEST_F(TextTest, APackFileIsMadeOnceAndFollowsTheShardsBytes) {
  WriteBytes(Path("a.txt"), Documents(0, 30));
  const std::string before = (*Packs(Path("a.txt"), 32))->fingerprint();
  ASSERT_EQ(PackFiles().size(), 1u);
  const std::string pack = Path(".weft/" + PackFiles()[0]);
  const std::string bytes = ReadBytes(pack);
  // Read-only from here on: nothing is made again.
  const auto made = std::filesystem::last_write_time(pack);
  EXPECT_EQ((*Packs(Path("a.txt"), 32))->fingerprint(), before);
  // Another time but the same bytes: still good.
  std::filesystem::last_write_time(Path("a.txt"), made + std::chrono::hours(1));
  EXPECT_EQ((*Packs(Path("a.txt"), 32))->fingerprint(), before);
  EXPECT_EQ(std::filesystem::last_write_time(pack), made);
  // Another block length is another file; another byte, even with the same size, another content.
  EXPECT_NE((*Packs(Path("a.txt"), 33))->fingerprint(), before);
  EXPECT_EQ(PackFiles().size(), 2u);
  std::string text = Documents(0, 30);
  text[3] = 'X';
  WriteBytes(Path("a.txt"), text);
  std::filesystem::last_write_time(Path("a.txt"), made + std::chrono::hours(2));
  EXPECT_NE((*Packs(Path("a.txt"), 32))->fingerprint(), before);
  EXPECT_EQ(PackFiles().size(), 2u);
  // A damaged block is named; a cut file is made again.
  std::string damaged = ReadBytes(pack);
  damaged[damaged.size() - 1] ^= 1;
  WriteBytes(pack, damaged);
  const auto packs = Packs(Path("a.txt"), 32);
  ASSERT_TRUE(packs.ok());
  std::vector<int32_t> ids;
  const Status status = (*packs)->Read((*packs)->num_blocks() - 1, &ids);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find(".pack"), std::string::npos) << status;
  WriteBytes(pack, bytes.substr(0, 300));
  EXPECT_EQ((*Packs(Path("a.txt"), 32))->num_blocks(), (*packs)->num_blocks());
}

TEST_F(TextTest, ManyOpenersAgree) {
  WriteBytes(Path("a.txt"), Documents(0, 300));
  std::vector<std::string> fingerprints(6);
  std::vector<std::thread> threads;
  for (std::string& fingerprint : fingerprints) {
    threads.emplace_back([this, &fingerprint] {
      const auto packs = Packs(Path("a.txt"), 40);
      if (packs.ok()) fingerprint = (*packs)->fingerprint();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fingerprints[0].size(), 64u);
  for (const std::string& fingerprint : fingerprints) EXPECT_EQ(fingerprint, fingerprints[0]);
  EXPECT_EQ(PackFiles().size(), 1u);
}

TEST_F(TextTest, MissingShardIsNamedAndLeavesNothing) {
  const Status status = Packs(Path("none.txt"), 40).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("none.txt"), std::string::npos) << status;
  EXPECT_FALSE(PosixFileSystem()->Exists(Path(".weft")));
}

// What is drawn, over many samples, against the binomial noise of that many draws.
TEST(TokenMask, ChoosesAndReplacesInTheReferencesShares) {
  constexpr size_t kLength = 101;
  constexpr int kSamples = 20'000;
  const MaskTokens tokens = {999, 4, 500};
  TokenMasker masker(MaskRecipe(), tokens);
  const KeyedRandom random(7, "mask:train", 3);
  std::vector<int32_t> ids(kLength);
  std::vector<int32_t> labels(kLength);
  double chosen = 0;
  double masked = 0;
  double kept = 0;
  double replaced = 0;
  std::vector<int> per_position(kLength);
  std::map<int32_t, int> counts;
  for (uint64_t sample = 0; sample < kSamples; ++sample) {
    for (size_t i = 0; i < kLength; ++i) ids[i] = 600 + static_cast<int32_t>(i);
    const int32_t count = masker.Mask(random, sample, kLength, ids.data(), labels.data());
    ++counts[count];
    int32_t labelled = 0;
    for (size_t i = 0; i < kLength; ++i) {
      const int32_t old = 600 + static_cast<int32_t>(i);
      if (labels[i] == kIgnoreLabel) {
        EXPECT_EQ(ids[i], old);
        continue;
      }
      ++labelled;
      ++per_position[i];
      EXPECT_EQ(labels[i], old);
      masked += ids[i] == tokens.mask_id;
      kept += ids[i] == old;
      const bool other = ids[i] >= 4 && ids[i] < 504;
      replaced += other;
      EXPECT_EQ(1, (ids[i] == tokens.mask_id) + (ids[i] == old) + other) << ids[i];
    }
    EXPECT_EQ(labelled, count);
    chosen += count;
  }
  // 0.15 * 101 = 15.15: 15 or 16 positions, nothing else, 16 in 15 % of the samples.
  ASSERT_EQ(counts.size(), 2u);
  EXPECT_NEAR(counts[16] / static_cast<double>(kSamples), 0.15, 0.01);
  EXPECT_NEAR(chosen / (kSamples * kLength), 0.15, 0.0002);
  EXPECT_NEAR(masked / chosen, 0.8, 0.003);
  EXPECT_NEAR(kept / chosen, 0.1, 0.003);
  EXPECT_NEAR(replaced / chosen, 0.1, 0.003);
  for (size_t i = 0; i < kLength; ++i)
    EXPECT_NEAR(per_position[i] / static_cast<double>(kSamples), 0.15, 0.013) << i;
}

TEST(TokenMask, IsKeyedBySeedEpochAndSample) {
  const auto draw = [](uint64_t seed, uint64_t epoch, uint64_t sample) {
    TokenMasker masker(MaskRecipe(), {999, 4, 500});
    std::vector<int32_t> ids(64, 7);
    std::vector<int32_t> labels(64);
    masker.Mask(KeyedRandom(seed, "mask:train", epoch), sample, 64, ids.data(), labels.data());
    return std::pair(ids, labels);
  };
  EXPECT_EQ(draw(1, 2, 3), draw(1, 2, 3));
  EXPECT_NE(draw(1, 2, 3).second, draw(2, 2, 3).second);
  EXPECT_NE(draw(1, 2, 3).second, draw(1, 3, 3).second);
  EXPECT_NE(draw(1, 2, 3).second, draw(1, 2, 4).second);
}

class MaskedTextLoaderTest : public TextTest {
 protected:
  void SetUp() override {
    TextTest::SetUp();
    WriteBytes(Path("train-0.txt"), Documents(0, 80));
    WriteShard(Path("train-1.tar"),
               {{"a", {{"txt", Documents(80, 30)}}}, {"b", {{"txt", Documents(110, 20)}}}});
    options_.family = SampleFamily::kMaskedText;
    options_.data.add_train_shards(Path("train-0.txt") + "::" + Path("train-1.tar"));
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.batch.set_slots(4);
    options_.batch.set_micro_batch_size(3);
    options_.seed = 5;
    options_.context_length = 40;
    options_.vocab_size = kVocabulary;
    options_.slots = {0, 1, 2, 3};
    options_.end_step = 40;
  }

  LoaderOptions options_;
};

TEST_F(MaskedTextLoaderTest, EveryBlockOnceAnEpochWithAMaskOfItsOwn) {
  auto loader = Loader::Open(options_);
  ASSERT_TRUE(loader.ok()) << loader.status();
  const int64_t n = (*loader)->num_samples();
  ASSERT_LT(n * 2, 40 * 12) << "the run must be two epochs";
  std::map<int64_t, std::vector<std::vector<int32_t>>> labels_of;
  std::map<int64_t, std::set<std::vector<int32_t>>> texts_of;
  int64_t seen = 0;
  for (int i = 0; i < 160 && seen < 2 * n; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (size_t row = 0; row < 3; ++row) {
      int32_t* ids = batch->Find("ids")->I32(row);
      const int32_t* labels = batch->Find("labels")->I32(row);
      const uint8_t* mask = batch->Find("mask")->U8(row);
      int32_t targets = 0;
      for (int t = 0; t < 40; ++t) {
        targets += labels[t] != kIgnoreLabel;
        EXPECT_EQ(mask[t] == 0, ids[t] == 1) << t;
        EXPECT_TRUE(mask[t] == 1 || labels[t] == kIgnoreLabel);
        EXPECT_TRUE(t == 0 || mask[t] <= mask[t - 1]);
      }
      EXPECT_EQ(batch->targets[row], targets);
      // With the masked tokens put back, a block is always the same text.
      std::vector<int32_t> text(ids, ids + 40);
      for (size_t t = 0; t < 40; ++t) {
        if (labels[t] != kIgnoreLabel) text[t] = labels[t];
      }
      EXPECT_EQ(text[0], 0);
      const int64_t id = batch->sample_ids[row];
      texts_of[id].insert(text);
      labels_of[id].push_back({labels, labels + 40});
      ++seen;
    }
  }
  EXPECT_EQ(static_cast<int64_t>(texts_of.size()), n);
  int64_t changed = 0;
  for (const auto& [id, texts] : texts_of) {
    EXPECT_EQ(texts.size(), 1u) << id;
    EXPECT_GE(labels_of[id].size(), 1u);
    if (labels_of[id].size() > 1) changed += labels_of[id][0] != labels_of[id][1];
  }
  EXPECT_GT(changed, n * 3 / 4);
}

TEST_F(MaskedTextLoaderTest, WrongSetsAreNamed) {
  LoaderOptions wrong = options_;
  wrong.vocab_size = kVocabulary + 1;
  EXPECT_NE(Loader::Open(wrong).status().message().find("vocab_size is at most 281"),
            std::string::npos);
  WriteBytes(Path("empty.txt"), "\n");
  wrong = options_;
  wrong.data.clear_train_shards();
  wrong.data.add_train_shards(Path("empty.txt"));
  EXPECT_NE(Loader::Open(wrong).status().message().find("data.train_shards: no text"),
            std::string::npos);
}

}  // namespace
}  // namespace weft
