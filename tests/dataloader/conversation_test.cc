#include "dataloader/conversation.h"

#include <gtest/gtest.h>

#include <map>

#include "dataloader/augment.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

constexpr int32_t kNo = kIgnoreLabel;

TEST(WidenPicture, GivesTheReferencesRow) {
  TokenRow row = {{1, 5, kPicturePlaceholder, 7, 9, 12, 2}, {kNo, kNo, kNo, kNo, 9, 12, 2}, -1};
  ASSERT_TRUE(WidenPicture(4, 100, &row).ok());
  EXPECT_EQ(row.ids, (std::vector<int32_t>{1, 5, 0, 0, 0, 0, 7, 9, 12, 2}));
  EXPECT_EQ(row.labels, (std::vector<int32_t>{kNo, kNo, kNo, kNo, kNo, kNo, kNo, 9, 12, 2}));
  EXPECT_EQ(row.picture_at, 2);
  EXPECT_EQ(CountTargets(row), 3);
}

TEST(WidenPicture, CutsAfterWideningButNeverThePicture) {
  const TokenRow row = {{1, kPicturePlaceholder, 7, 9}, {kNo, kNo, 7, 9}, -1};
  TokenRow cut = row;
  ASSERT_TRUE(WidenPicture(4, 6, &cut).ok());
  EXPECT_EQ(cut.ids, (std::vector<int32_t>{1, 0, 0, 0, 0, 7}));
  EXPECT_EQ(CountTargets(cut), 1);
  cut = row;
  ASSERT_TRUE(WidenPicture(4, 5, &cut).ok());
  EXPECT_EQ(CountTargets(cut), 0);
  cut = row;
  EXPECT_EQ(WidenPicture(4, 4, &cut).code(), StatusCode::kInvalidArgument);
  TokenRow text = {{1, 7, 9}, {kNo, 7, 9}, -1};
  ASSERT_TRUE(WidenPicture(4, 2, &text).ok());
  EXPECT_EQ(text.ids, (std::vector<int32_t>{1, 7}));
  EXPECT_EQ(text.picture_at, -1);
}

std::string Json(const std::string& turns) {
  return R"({"id": "7", "conversations": [)" + turns + "]}";
}
std::string From(const std::string& who, const std::string& value) {
  return R"({"from": ")" + who + R"(", "value": ")" + value + R"("})";
}

TEST(ParseConversation, PutsThePictureFirst) {
  for (const std::string question : {"<image>\\nWhat is it?", "What is it?\\n<image>"}) {
    const auto turns =
        ParseConversation(Json(From("human", question) + "," + From("gpt", " A cat. ")));
    ASSERT_TRUE(turns.ok()) << turns.status();
    ASSERT_EQ(turns->size(), 2u);
    EXPECT_TRUE((*turns)[0].picture);
    EXPECT_TRUE((*turns)[0].human);
    EXPECT_EQ((*turns)[0].text, "What is it?");
    EXPECT_EQ((*turns)[1].text, "A cat.");
  }
}

TEST(ParseConversation, DropsTurnsWithoutAPartner) {
  const auto turns = ParseConversation(Json(From("gpt", "Hello") + "," + From("human", "a") + "," +
                                            From("gpt", "b") + "," + From("human", "c")));
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->size(), 2u);
  EXPECT_EQ((*turns)[0].text, "a");
}

TEST(ParseConversation, RefusesWhatItCannotMean) {
  for (const std::string& bad :
       {std::string("{"), std::string("[]"), std::string("{}"), Json(""), Json("1"),
        Json(From("human", "a")), Json(From("gpt", "a")), Json(From("system", "a")),
        Json(From("human", "a") + "," + From("human", "b")),
        Json(From("human", "<image><image>") + "," + From("gpt", "b")),
        Json(From("human", "<image>") + "," + From("gpt", "<image>")),
        Json(R"({"from": "human", "value": 3},)" + From("gpt", "b")),
        Json(From("human", "<image>") + "," + From("gpt", "b") + "," + From("human", "<image>") +
             "," + From("gpt", "c"))}) {
    EXPECT_EQ(ParseConversation(bad).status().code(), StatusCode::kCorruption) << bad;
  }
}

class ConversationTest : public ::testing::Test {
 protected:
  static constexpr int kVocabulary = 259;

  void SetUp() override {
    const auto file = BpeTrainer(BpeStyle::kLlava).Train(kVocabulary);
    ASSERT_TRUE(file.ok()) << file.status();
    WriteBytes(Path("vocab.txt"), *file);
    vocabulary_ = std::move(*BpeVocabulary::Parse(*file, kVocabulary, "v", BpeStyle::kLlava));
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  // The learned part of a row as text, </s> as "|".
  std::string Learned(const std::vector<int32_t>& ids, const std::vector<int32_t>& labels) const {
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (labels[i] == kNo) continue;
      EXPECT_EQ(labels[i], ids[i]);
      text += ids[i] == 2 ? "|" : vocabulary_->Decode({ids[i]});
    }
    return text;
  }
  // All of it, <s> as "^", the picture as "#".
  std::string All(const std::vector<int32_t>& ids) const {
    std::string text;
    for (const int32_t id : ids) {
      text += id == 1 ? "^" : id == 2 ? "|" : id <= 0 ? "#" : vocabulary_->Decode({id});
    }
    return text;
  }

  testing::TempDir dir_;
  std::unique_ptr<BpeVocabulary> vocabulary_;
};

TEST_F(ConversationTest, PlainIsPictureCaptionNewline) {
  BpeTokenizer tokenizer(*vocabulary_);
  const TokenRow row = PlainRow("A cat.\n", &tokenizer);
  EXPECT_EQ(All(row.ids), "^# A cat.\n");
  EXPECT_EQ(row.ids[1], kPicturePlaceholder);
  EXPECT_EQ(row.labels[0], kNo);
  EXPECT_EQ(row.labels[1], kNo);
  EXPECT_EQ(Learned(row.ids, row.labels), " A cat.\n");
}

TEST_F(ConversationTest, V1LearnsTheAnswersAndTheirEnds) {
  BpeTokenizer tokenizer(*vocabulary_);
  const std::vector<Turn> turns = {
      {true, "What is it?", true}, {false, "A cat."}, {true, "Its colour?"}, {false, "Grey."}};
  TokenRow row = V1Row("A chat.", turns, &tokenizer);
  EXPECT_EQ(All(row.ids),
            "^A chat. USER: #\nWhat is it? ASSISTANT: A cat.|USER: Its colour? ASSISTANT: Grey.|");
  EXPECT_EQ(Learned(row.ids, row.labels), " A cat.| Grey.|");
  EXPECT_EQ(CountTargets(row), 7 + 1 + 6 + 1);
  row = V1Row("", {{true, "Hi"}, {false, "Ho"}}, &tokenizer);
  EXPECT_EQ(All(row.ids), "^USER: Hi ASSISTANT: Ho|");
}

class ConversationLoaderTest : public ConversationTest {
 protected:
  void SetUp() override {
    ConversationTest::SetUp();
    auto samples = MakeSamples(0, 12, 24);
    for (size_t i = 0; i < samples.size(); ++i) {
      std::map<std::string, std::string>& members = samples[i].second;
      const std::string answer = "It is " + members["txt"];
      // Every third sample is text only.
      const bool text_only = i % 3 == 2;
      members["json"] =
          Json(From("human", text_only ? "Hello?" : "<image>\\nWhat?") + "," + From("gpt", answer));
      if (text_only) members.erase("jpg");
    }
    samples[4].second["json"] = Json(From("human", "<image>") + "," + From("human", "?"));
    samples[7].second["json"] =
        Json(From("human", "<image>" + std::string(200, 'q')) + "," + From("gpt", "too late"));
    WriteShard(Path("train.tar"), samples);
    options_.family = SampleFamily::kConversation;
    options_.data.add_train_shards(Path("train.tar"));
    options_.data.add_eval_shards(Path("train.tar"));
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    options_.batch.set_slots(2);
    options_.batch.set_micro_batch_size(3);
    options_.seed = 5;
    options_.image_size = 16;
    options_.patches = 4;
    options_.context_length = 64;
    options_.vocab_size = kVocabulary;
    options_.slots = {0, 1};
    options_.end_step = 4;
  }

  LoaderOptions options_;
};

TEST_F(ConversationLoaderTest, GivesPicturesTextOnlyRowsAndSubstitutes) {
  auto loader = Loader::Open(options_);
  ASSERT_TRUE(loader.ok()) << loader.status();
  int text_only = 0;
  for (int i = 0; i < 8; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (size_t row = 0; row < 3; ++row) {
      const int64_t id = batch->sample_ids[row];
      EXPECT_NE(id, 4);
      EXPECT_NE(id, 7);
      const std::vector<int32_t> ids(batch->Find("ids")->I32(row),
                                     batch->Find("ids")->I32(row) + 64);
      const std::vector<int32_t> labels(batch->Find("labels")->I32(row),
                                        batch->Find("labels")->I32(row) + 64);
      const uint8_t* pixels = batch->Find("pixels")->U8(row);
      const uint8_t* mask = batch->Find("mask")->U8(row);
      const int32_t at = *batch->Find("image_at")->I32(row);
      const bool blank = std::count(pixels, pixels + 768, 0) == 768;
      const std::string answer = " It is picture number " + std::to_string(id) + "|";
      const std::string prompt =
          id % 3 == 2 ? "^USER: Hello? ASSISTANT:" : "^USER: ####\nWhat? ASSISTANT:";
      const size_t used = prompt.size() + answer.size();
      EXPECT_EQ(at, id % 3 == 2 ? -1 : 7);
      EXPECT_EQ(blank, id % 3 == 2);
      EXPECT_EQ(Learned(ids, labels), answer);
      EXPECT_EQ(All(ids), prompt + answer + std::string(64 - used, '#'));
      EXPECT_EQ(batch->targets[row], static_cast<int32_t>(answer.size()));
      for (size_t t = 0; t < 64; ++t) EXPECT_EQ(mask[t], t < used ? 1 : 0) << t;
      text_only += id % 3 == 2;
    }
  }
  EXPECT_GE(text_only, 4);
  EXPECT_EQ((*loader)->num_bad_samples(), 2);
}

TEST_F(ConversationLoaderTest, PlainTakesTheCaptionOrTheFirstAnswer) {
  options_.data.mutable_conversation()->set_version(ConversationRecipe::PLAIN);
  const auto caption_of = [this](int64_t id) {
    auto eval = EvalSet::Open(options_);
    EXPECT_TRUE(eval.ok()) << eval.status();
    auto batch = (*eval)->Read(id, id + 1);
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok()) return std::string();
    const int32_t* ids = batch->Find("ids")->I32(0);
    const int32_t* labels = batch->Find("labels")->I32(0);
    EXPECT_EQ(*batch->Find("image_at")->I32(0), 1);
    return Learned({ids, ids + 64}, {labels, labels + 64});
  };
  EXPECT_EQ(caption_of(3), " picture number 3\n");
  options_.data.set_text_extension("caption");
  EXPECT_EQ(caption_of(3), " It is picture number 3\n");
  // A caption without a picture is no sample of this stage.
  auto eval = EvalSet::Open(options_);
  EXPECT_EQ((*eval)->Read(2, 3).status().code(), StatusCode::kCorruption);
}

TEST_F(ConversationLoaderTest, WrongOptionsNameTheField) {
  LoaderOptions wrong = options_;
  wrong.context_length = 5;
  EXPECT_NE(Loader::Open(wrong).status().message().find("context_length is 5"), std::string::npos);
  wrong = options_;
  wrong.patches = 0;
  EXPECT_NE(Loader::Open(wrong).status().message().find("patches"), std::string::npos);
}

TEST(ImageCooker, PadsToASquareOfTheColour) {
  const Image image = MakeTestImage(40, 20, 3);
  std::vector<uint8_t> planes(3 * 20 * 20);
  ImageCooker cooker;
  ASSERT_TRUE(cooker.CookPadded(EncodePng(image), {9, 8, 7}, 20, planes.data()).ok());
  for (size_t c = 0; c < 3; ++c) {
    const uint8_t* plane = planes.data() + c * 400;
    // The picture takes the middle ten rows.
    for (size_t i = 0; i < 3 * 20; ++i) EXPECT_EQ(plane[i], 9 - c);
    for (size_t i = 17 * 20; i < 20 * 20; ++i) EXPECT_EQ(plane[i], 9 - c);
    double difference = 0;
    for (size_t y = 7; y < 13; ++y) {
      for (size_t x = 2; x < 18; ++x) {
        const size_t source = ((y - 5) * 2 * 40 + x * 2) * 3 + c;
        difference += std::abs(plane[y * 20 + x] - image.rgb[source]);
      }
    }
    EXPECT_LT(difference / (6 * 16), 16);
  }
}

}  // namespace
}  // namespace weft
