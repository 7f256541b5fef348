#include "dataloader/bpe_tokenizer.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>

#include "cluster/base/philox.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/html_entities.h"
#include "dataloader/unicode.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

std::string RealVocabulary() {
  const char* variable = std::getenv("WEFT_CLIP_VOCAB");
  if (variable != nullptr) return variable;
  return WEFT_SOURCE_DIR "/.deps/clip/bpe_simple_vocab_16e6.txt.gz";
}

class ClipVocabulary : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(RealVocabulary())) {
      GTEST_SKIP() << "OpenAI's vocabulary is not at " << RealVocabulary()
                   << " (tools/setup.sh fetches it; WEFT_CLIP_VOCAB names another place)";
    }
    auto vocabulary = BpeVocabulary::Load(RealVocabulary(), kClipVocabSize);
    ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
    vocabulary_ = std::move(*vocabulary);
  }
  std::vector<int> Encode(const std::string& text) {
    return BpeTokenizer(*vocabulary_).Encode(text);
  }

  std::unique_ptr<BpeVocabulary> vocabulary_;
};

using Ids = std::vector<int>;

TEST_F(ClipVocabulary, EncodesAsOpenAiDoes) {
  EXPECT_EQ(vocabulary_->size(), 49408);
  EXPECT_EQ(vocabulary_->start_id(), 49406);
  EXPECT_EQ(vocabulary_->end_id(), 49407);
  EXPECT_EQ(Encode("a photo of a cat"), (Ids{320, 1125, 539, 320, 2368}));
  EXPECT_EQ(Encode("A diagram, isn't it?  3 dogs & 12 cats"),
            (Ids{320, 22697, 267, 2923, 713, 585, 286, 274, 3255, 261, 272, 273, 3989}));
  EXPECT_EQ(Encode("naïve café"), (Ids{1097, 35689, 563, 15304}));
  EXPECT_EQ(Encode("hello &amp;amp; WORLD!!!"), (Ids{3306, 261, 1002, 995}));
}

TEST_F(ClipVocabulary, DecodesWhatItEncoded) {
  EXPECT_EQ(vocabulary_->Decode(Encode("Naïve café no. 12!")), "naïve café no . 1 2 ! ");
}

TEST_F(ClipVocabulary, LongTextIsCutWithTheEndLast) {
  std::string text;
  for (int i = 0; i < 80; ++i) text += "cat ";
  std::vector<int32_t> ids(77, -1);
  EXPECT_EQ(BpeTokenizer(*vocabulary_).EncodeInto(text, 77, ids.data()), 76);
  EXPECT_EQ(ids[0], 49406);
  EXPECT_EQ(ids[75], 2368);
  EXPECT_EQ(ids[76], 49407);
}

// "he" then "hel"..., small enough to follow by hand.
constexpr char kTinyFile[] = "#version: test\nl l\nh e\nhe ll\nhell o</w>\nt h\n";

std::unique_ptr<BpeVocabulary> Tiny(int size = 0) {
  auto vocabulary = BpeVocabulary::Parse(kTinyFile, size, "tiny");
  EXPECT_TRUE(vocabulary.ok()) << vocabulary.status();
  return std::move(*vocabulary);
}

TEST(BpeTokenizer, MergesByRank) {
  const auto vocabulary = Tiny();
  EXPECT_EQ(vocabulary->size(), 519);
  BpeTokenizer tokenizer(*vocabulary);
  EXPECT_EQ(tokenizer.Encode("Hello"), Ids{515});
  EXPECT_EQ(tokenizer.Encode("hello hello"), (Ids{515, 515}));
  // "hell" ends a word: l</w> is another symbol than l, so neither "l l" nor what follows from it applies.
  const int l = BpeByteId('l');
  EXPECT_EQ(tokenizer.Encode("hell"), (Ids{513, l, l + 256}));
  EXPECT_EQ(tokenizer.Encode("the"), (Ids{516, BpeByteId('e') + 256}));
  EXPECT_EQ(tokenizer.Encode(""), Ids{});
}

TEST(BpeTokenizer, TheSmallerRankGoesFirst) {
  auto vocabulary = BpeVocabulary::Parse("#v\na b\nb c\n", 0, "ranks");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  const Ids expected = {512, BpeByteId('c'), BpeByteId('d') + 256};
  EXPECT_EQ(BpeTokenizer(**vocabulary).Encode("abcd"), expected);
}

TEST(BpeTokenizer, PadsWithZeros) {
  const auto vocabulary = Tiny();
  std::vector<int32_t> ids(6, -1);
  EXPECT_EQ(BpeTokenizer(*vocabulary).EncodeInto("hello", 6, ids.data()), 2);
  EXPECT_EQ(ids, (std::vector<int32_t>{517, 515, 518, 0, 0, 0}));
  EXPECT_EQ(BpeTokenizer(*vocabulary).EncodeInto("", 6, ids.data()), 1);
  EXPECT_EQ(ids, (std::vector<int32_t>{517, 518, 0, 0, 0, 0}));
}

TEST(BpeTokenizer, UsesAsManyMergesAsTheSizeSays) {
  const auto vocabulary = Tiny(515);  // one merge
  EXPECT_EQ(vocabulary->end_id(), 514);
  const Status too_many = BpeVocabulary::Parse(kTinyFile, 600, "tiny").status();
  EXPECT_EQ(too_many.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(too_many.message().find("at most 519"), std::string::npos) << too_many;
}

TEST(BpeTokenizer, BadFilesSayWhere) {
  EXPECT_EQ(BpeVocabulary::Load("/nonexistent/vocab", 0).status().code(), StatusCode::kNotFound);
  const Status no_merge = BpeVocabulary::Parse("#v\na b\nabc\nd e\n", 0, "f").status();
  EXPECT_NE(no_merge.message().find("line 3"), std::string::npos) << no_merge;
  const Status unknown = BpeVocabulary::Parse("#v\na b\nxyz b\n", 0, "f").status();
  EXPECT_NE(unknown.message().find("line 3"), std::string::npos) << unknown;
  EXPECT_TRUE(BpeVocabulary::Parse("", 0, "f").ok());

  testing::TempDir dir;
  gzFile gz = gzopen((dir.path() + "/v.gz").c_str(), "wb");
  gzputs(gz, kTinyFile);
  gzclose(gz);
  EXPECT_TRUE(BpeVocabulary::Load(dir.path() + "/v.gz", 519).ok());
  const std::string whole = ReadBytes(dir.path() + "/v.gz");
  WriteBytes(dir.path() + "/cut.gz", whole.substr(0, whole.size() / 2));
  EXPECT_EQ(BpeVocabulary::Load(dir.path() + "/cut.gz", 519).status().code(),
            StatusCode::kCorruption);
}

TEST(BpeTokenizer, SplitsWordsAsClip) {
  const auto split = [](std::string_view text) {
    std::string joined;
    for (const std::string_view word : SplitWords(text)) joined += std::string(word) + "|";
    return joined;
  };
  EXPECT_EQ(split("isn't it's we'll 'sup"), "isn|'t|it|'s|we|'ll|'s|up|");
  EXPECT_EQ(split("abc123 x²"), "abc|1|2|3|x|²|");
  EXPECT_EQ(split("wow!!! (a-b) $5"), "wow|!!!|(|a|-|b|)|$|5|");
  EXPECT_EQ(split("<|endoftext|>x"), "<|endoftext|>|x|");
  EXPECT_EQ(split("été 日本"), "été|日本|");
}

// The way for plain ASCII, and what it leaves to the other one.
TEST(CleanCaption, IntoAStringIsTheSame) {
  const KeyedRandom random(7, "captions");
  std::string cleaned;
  for (uint64_t i = 0; i < 2000; ++i) {
    std::string text;
    for (uint64_t k = 0; k < random.Below(40, i, 0); ++k) {
      // Mostly ASCII, control characters too; every eighth text has some of the rest, or references.
      const uint64_t byte = random.Below(i % 8 == 0 ? 256 : 128, i, k + 1);
      if (byte != '&' || i % 8 == 0) text += static_cast<char>(byte);
    }
    CleanCaption(text, &cleaned);
    EXPECT_EQ(cleaned, CleanCaption(text)) << i;
  }
}

TEST(CleanCaption, DoesWhatTheHeaderSays) {
  EXPECT_EQ(CleanCaption("  Two\t\n SPACES  "), "two spaces");
  EXPECT_EQ(CleanCaption("e\u0301t\u00C9"), "été");              // composed, lower-cased
  EXPECT_EQ(CleanCaption("\u201CIt\u2019s\u201D"), "\"it's\"");  // straight quotes
  EXPECT_EQ(CleanCaption("a\x01\x7F"
                         "b"),
            "ab");
  EXPECT_EQ(CleanCaption("caf\xE9"), "caf\uFFFD");      // no UTF-8
  EXPECT_EQ(CleanCaption("&amp;lt;B&amp;gt;"), "<b>");  // twice
}

TEST(UnescapeHtml, KnowsReferences) {
  EXPECT_EQ(UnescapeHtml("&lt;&amp;&gt;&quot;&apos;&nbsp;&hearts;&Eacute;"),
            "<&>\"'\u00A0\u2665\u00C9");
  EXPECT_EQ(UnescapeHtml("&#65;&#x42;&#X43;&#150;&#0;&#xD800;&#99999999999;"),
            "ABC\u2013\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(UnescapeHtml("&amp &copy2 &hearts &#65 &"), "& \u00A92 &hearts A &");
  EXPECT_EQ(UnescapeHtml("&amp;lt; &nosuch; &; &#; &#x;"), "&lt; &nosuch; &; &#; &#x;");
  EXPECT_EQ(UnescapeHtml("&notit;"), "\u00ACit;");
}

TEST(BpeTrainer, LearnsTheMostFrequentPairs) {
  BpeTrainer trainer;
  for (int i = 0; i < 3; ++i) trainer.AddText("low lower lowest");
  trainer.AddText("Newer");
  const auto file = trainer.Train(514 + 4);
  ASSERT_TRUE(file.ok()) << file.status();
  // "lo" 9 times, then "low" (6 with and 3 without a word end to follow), then ties by id.
  EXPECT_EQ(file->substr(file->find('\n') + 1).substr(0, 4), "l o\n");
  auto vocabulary = BpeVocabulary::Parse(*file, 518, "trained");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  EXPECT_LE(BpeTokenizer(**vocabulary).Encode("lowest").size(), 5u);
  EXPECT_EQ(*trainer.Train(518), *file);
}

TEST(BpeTrainer, TrainedFileGivesTheWordsBack) {
  BpeTrainer trainer;
  for (const char* caption :
       {"a red apple", "the red car", "a green apple tree", "café, naïve!", "banana bandana"}) {
    trainer.AddText(caption);
  }
  const Status too_large = trainer.Train(5000).status();
  EXPECT_EQ(too_large.code(), StatusCode::kInvalidArgument);
  const int largest = std::stoi(too_large.message().substr(too_large.message().find_last_of(' ')));
  const auto file = trainer.Train(largest);
  ASSERT_TRUE(file.ok()) << file.status();
  auto vocabulary = BpeVocabulary::Parse(*file, largest, "trained");
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.status();
  BpeTokenizer tokenizer(**vocabulary);
  for (const char* word : {"apple", "banana", "bandana", "café", "green"}) {
    EXPECT_EQ(tokenizer.Encode(word).size(), 1u) << word;
  }
  EXPECT_EQ((*vocabulary)->Decode(tokenizer.Encode("unseen words too")), "unseen words too ");
}

}  // namespace
}  // namespace weft
