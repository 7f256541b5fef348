// Micro-batches whose rows hold several conversations, through all that a loader does: order, mix, cache, evaluation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/hash.h"
#include "dataloader/bpe_vocabulary.h"
#include "dataloader/image.h"
#include "dataloader/shard_index.h"
#include "tests/dataloader/packed_conversations.h"

namespace weft {
namespace {

// What a row of a micro-batch holds, by the contract of LoaderOptions.
struct Row {
  std::vector<int> members;
  int pictures = 0;
  int used = 0;
};

class PackedLoaderTest : public ConversationPacksTest {
 protected:
  void SetUp() override {
    ConversationPacksTest::SetUp();
    samples_.resize(120);
    // A picture that does not decode beside others; one in a row of its own.
    samples_[9].second["jpg"] = "no picture";
    samples_[10].second["jpg"].resize(150);
    SetAnswer(33, 300);
    samples_[33].second["jpg"] = "no picture";
    Write();
    vocabulary_ = std::move(*BpeVocabulary::Load(Path("vocab.txt"), 0, BpeStyle::kLlava));
  }

  // Checks the fields of a row against each other; who is in it.
  Row CheckRow(const MicroBatch& batch, size_t row) const {
    MicroBatch& b = const_cast<MicroBatch&>(batch);
    const int32_t* ids = b.Find("ids")->I32(row);
    const int32_t* labels = b.Find("labels")->I32(row);
    const int32_t* segment_at = b.Find("segment_at")->I32(row);
    const int32_t* image_at = b.Find("image_at")->I32(row);
    Row got;
    int32_t targets = 0;
    for (int begin = 0; begin < kRow && ids[begin] != 0;) {
      EXPECT_EQ(ids[begin], 1);
      EXPECT_EQ(labels[begin], kIgnoreLabel);
      int end = begin;
      while (end < kRow && segment_at[end] == begin) ++end;
      if (end == begin) {
        ADD_FAILURE() << "no conversation begins at " << begin;
        break;
      }
      const bool seeing =
          got.pictures < kPictures && image_at[got.pictures] >= 0 && image_at[got.pictures] < end;
      if (seeing) {
        EXPECT_EQ(image_at[got.pictures], begin + 7);
        for (int k = 0; k < kPatches; ++k) {
          EXPECT_EQ(ids[begin + 7 + k], 0);
          EXPECT_EQ(labels[begin + 7 + k], kIgnoreLabel);
        }
      }
      const int head = seeing ? kSeeing - 2 : kTextOnly - 2;
      std::string answer;
      for (int k = begin; k < end; ++k) {
        EXPECT_EQ(labels[k], k - begin < head ? kIgnoreLabel : ids[k]);
        if (k - begin >= head) answer += vocabulary_->Decode({ids[k]});
        targets += labels[k] == kIgnoreLabel ? 0 : 1;
      }
      const int i = std::atoi(answer.c_str());
      EXPECT_EQ(seeing, Seeing(i)) << answer;
      EXPECT_EQ(end - begin, lengths_.at(i)) << answer;
      got.members.push_back(i);
      if (seeing) CheckPicture(i, b.Find("pixels")->Row(row), got.pictures++);
      begin = end;
      got.used = end;
    }
    EXPECT_EQ(batch.targets[row], targets);
    CheckRest(&b, row, got);
    return got;
  }

  // Nothing lies behind what the row holds.
  static void CheckRest(MicroBatch* batch, size_t row, const Row& got) {
    const int32_t* ids = batch->Find("ids")->I32(row);
    const int32_t* labels = batch->Find("labels")->I32(row);
    const int32_t* segment_at = batch->Find("segment_at")->I32(row);
    const int32_t* image_at = batch->Find("image_at")->I32(row);
    for (int k = got.used; k < kRow; ++k) {
      EXPECT_EQ(ids[k], 0);
      EXPECT_EQ(labels[k], kIgnoreLabel);
      EXPECT_EQ(segment_at[k], k);
    }
    for (int k = got.pictures; k < kPictures; ++k) {
      EXPECT_EQ(image_at[k], -1);
      const uint8_t* pixels = batch->Find("pixels")->Row(row) + k * 432;
      EXPECT_EQ(std::count(pixels, pixels + 432, 0), 432);
    }
  }

  void CheckPicture(int i, const uint8_t* pixels, int place) const {
    ImageCooker cooker{options_.data.augment()};
    std::vector<uint8_t> planes(432);
    const std::string& jpeg = samples_[static_cast<size_t>(i)].second.at("jpg");
    ASSERT_TRUE(cooker.CookForEval(jpeg, 12, planes.data()).ok());
    EXPECT_TRUE(std::equal(planes.begin(), planes.end(), pixels + place * 432)) << i;
  }

  std::unique_ptr<BpeVocabulary> vocabulary_;
};

TEST_F(PackedLoaderTest, RowsHoldTheirGoodConversationsOneAfterTheOther) {
  const auto packs = Packs();
  ASSERT_TRUE(packs.ok()) << packs.status();
  const int64_t total = packs->num_packs();
  options_.end_step = (2 * total + 7) / 8;
  auto loader = Loader::Open(options_);
  ASSERT_TRUE(loader.ok()) << loader.status();
  EXPECT_EQ((*loader)->num_samples(), total);
  std::map<int, int> seen;
  for (int64_t i = 0; i < options_.end_step * 2; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (size_t row = 0; row < 4; ++row) {
      const Row got = CheckRow(*batch, row);
      std::vector<int> expected;
      for (const PackMember& member : packs->Find(batch->sample_ids[row]).members) {
        const auto k = static_cast<int>(member.sample);
        if (k != 9 && k != 10 && k != 33) expected.push_back(k);
      }
      EXPECT_EQ(got.members, expected);
      for (const int member : got.members) ++seen[member];
    }
  }
  // Two epochs: the row of the broken picture alone is replaced, the others' conversations all come.
  EXPECT_EQ((*loader)->num_bad_samples(), 1);
  EXPECT_EQ(seen.size(), 117u);
  for (const auto& [member, times] : seen) EXPECT_GE(times, 2) << member;
}

// A consumer without pixels, one with labels only: the same samples, the same bytes.
TEST_F(PackedLoaderTest, ConsumersOfAnyFieldsAgree) {
  options_.end_step = 12;
  const auto read = [this](std::optional<std::vector<std::string>> fields) {
    LoaderOptions options = options_;
    options.fields = std::move(fields);
    auto loader = Loader::Open(options);
    EXPECT_TRUE(loader.ok()) << loader.status();
    std::vector<std::pair<std::vector<int64_t>, std::vector<uint8_t>>> got;
    for (int i = 0; i < 24; ++i) {
      auto batch = (*loader)->Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      got.emplace_back(batch->sample_ids, batch->Find("labels")->bytes);
      EXPECT_EQ(batch->fields.size(), options.fields ? options.fields->size() : 5u);
    }
    return got;
  };
  const auto all = read(std::nullopt);
  EXPECT_EQ(read({{"labels"}}), all);
  EXPECT_EQ(read({{"ids", "labels", "segment_at", "image_at"}}), all);
}

// Two sets, mixed in each way that a recipe can ask for.
TEST_F(PackedLoaderTest, RowsAreMixedAsSamplesAre) {
  std::vector<TestSample> others(samples_.begin() + 40, samples_.begin() + 80);
  WriteShard(Path("others.tar"), others);
  options_.data.clear_train_shards();
  for (const std::string name : {"train", "others"}) {
    DataSetRecipe* set = options_.data.add_sets();
    set->set_name(name);
    set->add_shards(Path(name + ".tar"));
    set->set_weight(name == "train" ? 6 : 2);
  }
  options_.data.mutable_order()->set_lanes(2);
  options_.end_step = 12;
  for (const MixRecipe::Unit unit : {MixRecipe::SAMPLE, MixRecipe::BATCH, MixRecipe::COUNTS}) {
    options_.data.mutable_mix()->set_unit(unit);
    auto loader = Loader::Open(options_);
    ASSERT_TRUE(loader.ok()) << loader.status();
    const int64_t first = Packs("train").num_packs();
    EXPECT_EQ((*loader)->num_samples(), first + Packs("others").num_packs());
    int64_t of_others = 0;
    for (int i = 0; i < 24; ++i) {
      auto batch = (*loader)->Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      for (size_t row = 0; row < 4; ++row) {
        const Row got = CheckRow(*batch, row);
        const bool other = batch->sample_ids[row] >= first;
        of_others += other;
        for (const int member : got.members)
          EXPECT_TRUE(!other || (member >= 40 && member < 80)) << member;
      }
    }
    EXPECT_EQ(of_others, 24) << unit;
  }
}

// The cache is told of the conversations' chunks, not of the rows': all comes from it the second time.
TEST_F(PackedLoaderTest, RowsAreReadThroughTheCache) {
  options_.end_step = 16;
  options_.data.mutable_order()->set_chunk(8);
  const auto read = [](const LoaderOptions& options) {
    auto loader = Loader::Open(options);
    EXPECT_TRUE(loader.ok()) << loader.status();
    std::vector<uint32_t> crcs;
    for (int i = 0; i < 32; ++i) {
      auto batch = (*loader)->Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      if (!batch.ok()) break;
      uint32_t crc = 0;
      for (const Field& field : batch->fields)
        crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
      crcs.push_back(crc);
    }
    return crcs;
  };
  const std::vector<uint32_t> straight = read(options_);
  // So that the index does not need the shard.
  const auto file = ShardFile::Open(Path("train.tar"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(ShardIndex::BuildWithChecksums(**file)->WriteBeside(**file).ok());
  options_.data.set_cache_dir(Path("cache"));
  options_.data.set_cache_bytes(10 << 20);
  EXPECT_EQ(read(options_), straight);
  const auto time = std::filesystem::last_write_time(Path("train.tar"));
  WriteBytes(Path("train.tar"), std::string(std::filesystem::file_size(Path("train.tar")), '\0'));
  std::filesystem::last_write_time(Path("train.tar"), time);
  EXPECT_EQ(read(options_), straight);
}

TEST_F(PackedLoaderTest, ThePlanCountsRows) {
  const std::string recipe = std::string(WEFT_SOURCE_DIR) + "/recipes/llava/tiny_stage2.textproto";
  const std::string words = std::to_string(BpeFixedEntries(BpeStyle::kLlava));
  ::testing::internal::CaptureStdout();
  const int code = DataCommand(
      {"plan", recipe, "--nodes", "2", "--set", "data.train_shards=[\"" + Path("train.tar") + "\"]",
       "--set", "data.vocabulary=" + Path("vocab.txt"), "--set", "model.llava.vocab_size=" + words,
       "--set", "model.llava.max_length=256", "--set", "data.conversation.pack=true"});
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_NE(out.find("  rows of 120 conversations, "), std::string::npos) << out;
  EXPECT_NE(out.find("0 conversations are in no row"), std::string::npos) << out;
}

TEST_F(PackedLoaderTest, CostsAreKnownWithoutReading) {
  const auto source = OpenSampleSource(options_, SampleUse::kTrain);
  ASSERT_TRUE(source.ok()) << source.status();
  const auto packs = Packs();
  for (int64_t id = 0; id < (*source)->num_samples(); ++id) {
    int64_t squares = 0;
    for (const PackMember& member : packs->Find(id).members)
      squares += int64_t{member.tokens} * member.tokens;
    EXPECT_EQ(*(*source)->Length(id), packs->Find(id).pack->tokens);
    EXPECT_EQ(*(*source)->AttentionPairs(id), squares);
  }
}

TEST_F(PackedLoaderTest, EvaluationReadsEachRowOnceInOrder) {
  samples_.resize(9);
  Write();
  auto eval = EvalSet::Open(options_);
  ASSERT_TRUE(eval.ok()) << eval.status();
  auto batch = (*eval)->Read(0, (*eval)->size());
  ASSERT_TRUE(batch.ok()) << batch.status();
  std::set<int> members;
  for (size_t row = 0; row < batch->sample_ids.size(); ++row) {
    for (const int member : CheckRow(*batch, row).members)
      EXPECT_TRUE(members.insert(member).second) << member;
  }
  EXPECT_EQ(members.size(), 9u);
  const auto raw = (*eval)->Sample(0);
  ASSERT_TRUE(raw.ok()) << raw.status();
  EXPECT_NE(raw->caption.find("conversations"), std::string::npos);
}

// Of several captions the longest takes the place; a shorter one leaves padding, never a hole between two.
TEST_F(PackedLoaderTest, CaptionsThatAreDrawnFitTheirPlace) {
  for (size_t i = 0; i < samples_.size(); ++i) {
    samples_[i].second["json"] = R"({"captions": ["a", ")" + std::string(i % 31, 'b') + "\"]}";
  }
  Write();
  options_.data.mutable_conversation()->set_version(ConversationRecipe::PLAIN);
  options_.data.set_text_extension("json");
  options_.text_field = "captions";
  options_.end_step = 20;
  auto loader = Loader::Open(options_);
  ASSERT_TRUE(loader.ok()) << loader.status();
  std::map<int64_t, std::set<int>> tokens;
  for (int i = 0; i < 40; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (size_t row = 0; row < 4; ++row) {
      const int32_t* at = batch->Find("segment_at")->I32(row);
      const int32_t* ids = batch->Find("ids")->I32(row);
      int used = kRow;
      while (used > 0 && ids[used - 1] == 0) --used;
      for (int k = 0; k < used; ++k) EXPECT_EQ(ids[at[k]], 1);
      tokens[batch->sample_ids[row]].insert(used);
    }
  }
  // Each epoch draws anew.
  EXPECT_GT(std::count_if(tokens.begin(), tokens.end(),
                          [](const auto& row) { return row.second.size() > 1; }),
            static_cast<int64_t>(tokens.size() / 2));
}

TEST_F(PackedLoaderTest, WrongOptionsNameTheField) {
  options_.data.mutable_conversation()->set_pack(false);
  EXPECT_NE(Loader::Open(options_).status().message().find("data.conversation.pack"),
            std::string::npos);
  options_.data.mutable_conversation()->set_pack(true);
  options_.pictures = 0;
  EXPECT_NE(Loader::Open(options_).status().message().find("data.conversation.pack"),
            std::string::npos);
}

}  // namespace
}  // namespace weft
