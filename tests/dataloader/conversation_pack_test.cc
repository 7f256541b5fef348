#include "dataloader/conversation_packs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/hash.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/manifest.h"
#include "dataloader/shard_index.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

std::string Turns(const std::string& question, const std::string& answer) {
  return R"({"conversations": [{"from": "human", "value": ")" + question +
         R"("}, {"from": "gpt", "value": ")" + answer + "\"}]}";
}

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

TEST_F(ConversationPacksTest, HoldEachConversationOnceWithItsExactLength) {
  samples_[40].second["json"] = "{";
  samples_[41].second.erase("json");
  samples_[42].second.erase("jpg");
  // What is learned begins behind the row's end.
  samples_[45].second["json"] = Turns("<image>" + std::string(200, 'q'), "too late");
  SetAnswer(600, 300);
  Write();
  const auto packs = Packs();
  ASSERT_TRUE(packs.ok()) << packs.status();
  std::set<int> all;
  size_t members = 0;
  for (const std::set<int>& row : Check(*packs)) {
    all.insert(row.begin(), row.end());
    members += row.size();
  }
  EXPECT_EQ(members, size_t{kSamples - 4});
  EXPECT_EQ(all.size(), members);
  EXPECT_EQ(packs->num_members(), kSamples - 4);
  EXPECT_EQ(packs->num_left_out(), 4);
  for (const int left_out : {40, 41, 42, 45}) EXPECT_EQ(all.count(left_out), 0u);
  EXPECT_GT(packs->fill(), 0.85);
  EXPECT_LE(packs->fill(), 1.0);
}

TEST_F(ConversationPacksTest, TableIsMadeOnceAndFollowsTheTexts) {
  Write();
  const std::string before = Fingerprint();
  ASSERT_EQ(PackFiles().size(), 1u);
  const auto made = std::filesystem::last_write_time(PackFiles()[0]);
  // One thread makes what three make; a touched shard is the same one.
  options_.data.set_loader_threads(1);
  std::filesystem::last_write_time(Path("train.tar"), made + std::chrono::hours(1));
  EXPECT_EQ(Fingerprint(), before);
  EXPECT_EQ(std::filesystem::last_write_time(PackFiles()[0]), made);
  const std::string bytes = ReadBytes(PackFiles()[0]);
  std::filesystem::remove(PackFiles()[0]);
  EXPECT_EQ(Fingerprint(), before);
  EXPECT_EQ(ReadBytes(PackFiles()[0]).substr(sizeof(PackHead)), bytes.substr(sizeof(PackHead)));
  // Another letter in a text of the same size.
  std::string& json = samples_[3].second["json"];
  json[json.find("xx")] = 'y';
  Write();
  std::filesystem::last_write_time(Path("train.tar"), made + std::chrono::hours(2));
  EXPECT_NE(Fingerprint(), before);
  EXPECT_EQ(PackFiles().size(), 1u);
}

TEST_F(ConversationPacksTest, WhatDecidesLengthsIsInTheKey) {
  samples_.resize(40);
  Write();
  std::set<std::string> fingerprints = {Fingerprint()};
  const LoaderOptions usual = options_;
  const auto expect_another = [&](const std::string& what) {
    EXPECT_TRUE(fingerprints.insert(Fingerprint()).second) << what;
    EXPECT_EQ(PackFiles().size(), fingerprints.size()) << what;
    options_ = usual;
  };
  options_.context_length = kRow + 1;
  expect_another("context_length");
  options_.patches = kPatches + 1;
  expect_another("patches");
  options_.pictures = kPictures - 1;
  expect_another("pictures");
  options_.data.mutable_conversation()->set_system("Hm.");
  expect_another("system");
  options_.data.mutable_conversation()->set_version(ConversationRecipe::PLAIN);
  expect_another("version");
  options_.data.set_image_extensions("jpg;png");
  expect_another("image_extensions");
  options_.data.set_text_extension("caption");
  expect_another("text_extension");
  const auto other = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
  WriteBytes(Path("merges.txt"), *other + "x x\n");
  options_.data.set_vocabulary(Path("merges.txt"));
  expect_another("vocabulary");
}

TEST_F(ConversationPacksTest, ExcludedSamplesAreInNoRow) {
  Write();
  const std::string path = Path("train.manifest");
  auto file = ShardFile::Open(Path("train.tar"));
  ASSERT_TRUE(file.ok());
  const auto index = ShardIndex::BuildWithChecksums(**file);
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_TRUE(index->WriteBeside(**file).ok());
  auto writer = ManifestWriter::Create(path);
  ASSERT_TRUE(writer.ok());
  std::vector<SamplePlace> places;
  for (int64_t i = 0; i < index->num_samples(); ++i)
    places.push_back({index->sample(i).begin, index->sample(i).size, index->sample(i).crc});
  ASSERT_TRUE((*writer)
                  ->Add({Path("train.tar"), (*file)->size(),
                         static_cast<uint64_t>(index->num_samples()), index->contents_crc()},
                        places)
                  .ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  options_.data.set_train_shards(0, path);
  const std::string before = Fingerprint();
  auto manifest = Manifest::Open(path);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ASSERT_EQ(*(*manifest)->Exclude({{0, 3}, {0, 700}}), 2);
  EXPECT_NE(Fingerprint(), before);
  EXPECT_EQ(PackFiles().size(), 2u);
  const auto set = ConversationSet::Open(options_, SampleUse::kTrain);
  ASSERT_TRUE(set.ok());
  const auto packs = ConversationPacks::Open(*set);
  ASSERT_TRUE(packs.ok()) << packs.status();
  std::set<std::string> keys;
  for (int64_t id = 0; id < packs->num_packs(); ++id) {
    const ConversationPacks::View row = packs->Find(id);
    for (const PackMember& member : row.members)
      keys.insert(std::string(set->set->key(row.first_id + member.sample)));
  }
  EXPECT_EQ(keys.size(), size_t{kSamples - 2});
  EXPECT_EQ(keys.count(samples_[3].first), 0u);
  EXPECT_EQ(keys.count(samples_[700].first), 0u);
  // The same number of others.
  auto again = Manifest::Open(path);
  ASSERT_EQ(*(*again)->Exclude({{0, 5}}), 1);
  Fingerprint();
  EXPECT_EQ(PackFiles().size(), 3u);
}

TEST_F(ConversationPacksTest, DamagedTablesAreMadeAgain) {
  samples_.resize(30);
  Write();
  const std::string fingerprint = Fingerprint();
  const std::string path = PackFiles()[0];
  const std::string whole = ReadBytes(path);
  const auto expect_made_again = [&](const std::string& damaged, size_t at) {
    WriteBytes(path, damaged);
    ASSERT_EQ(Fingerprint(), fingerprint) << at;
    ASSERT_EQ(ReadBytes(path), whole) << at;
  };
  const auto flipped = [&whole](size_t at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    return bytes;
  };
  for (size_t at = 0; at < whole.size(); at += 43) {
    expect_made_again(whole.substr(0, at), at);
    expect_made_again(flipped(at), at);
  }
  // Every length and every byte, without a file.
  const PackFileKind kind = {"WEFTCONV", 1, sizeof(ConversationPack), sizeof(PackMember)};
  const auto read = [&](const std::string& bytes) -> Status {
    PackHead head = {};
    if (bytes.size() < sizeof head) return NotFound("short");
    std::memcpy(&head, bytes.data(), sizeof head);
    PackHead good = {};
    std::memcpy(&good, whole.data(), sizeof good);
    WEFT_RETURN_IF_ERROR(CheckPackHead(head, bytes.size(), kind, path,
                                       std::string(good.key, PackHead::kHex), good.shard,
                                       [] { return std::string(); }));
    std::vector<uint64_t> aligned((bytes.size() - sizeof head + 7) / 8);
    std::memcpy(aligned.data(), bytes.data() + sizeof head, bytes.size() - sizeof head);
    const std::string_view payload(reinterpret_cast<const char*>(aligned.data()),
                                   bytes.size() - sizeof head);
    return PackTable::Parse(head, payload, {30, kRow, kPictures}).status();
  };
  ASSERT_TRUE(read(whole).ok()) << read(whole);
  for (size_t at = 0; at < whole.size(); ++at) {
    EXPECT_FALSE(read(whole.substr(0, at)).ok()) << at;
    EXPECT_FALSE(read(flipped(at)).ok()) << at;
  }
}

// Sums that fit, contents that do not.
TEST_F(ConversationPacksTest, ParsingRefusesWhatLiesOutside) {
  const auto parse = [](std::vector<ConversationPack> packs, std::vector<PackMember> members) {
    std::vector<uint64_t> aligned(packs.size() * 4 + members.size());
    auto* bytes = reinterpret_cast<char*>(aligned.data());
    std::memcpy(bytes, packs.data(), packs.size() * sizeof packs[0]);
    std::memcpy(bytes + packs.size() * sizeof packs[0], members.data(), members.size() * 8);
    PackHead head = {};
    head.packs = packs.size();
    head.items = members.size();
    head.payload_crc = Crc32c(bytes, aligned.size() * 8);
    return PackTable::Parse(head, {bytes, aligned.size() * 8}, {10, 20, 2}).status();
  };
  const ConversationPack good = {0, 9 + 16, 7, 2, 1, 0};
  const std::vector<PackMember> members = {{2, 3}, {9, 4}};
  EXPECT_TRUE(parse({good}, members).ok());
  EXPECT_TRUE(parse({}, {}).ok());
  const auto expect_refused = [&](const auto& change) {
    ConversationPack pack = good;
    std::vector<PackMember> of = members;
    change(pack, of);
    EXPECT_EQ(parse({pack}, of).code(), StatusCode::kCorruption);
  };
  using Members = std::vector<PackMember>;
  expect_refused([](ConversationPack& pack, Members&) { pack.first_member = 1; });
  expect_refused([](ConversationPack& pack, Members&) { pack.first_member = ~uint64_t{0}; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 3; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 1; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 0; });
  expect_refused([](ConversationPack& pack, Members&) { pack.tokens = 8; });
  expect_refused([](ConversationPack& pack, Members&) { pack.squares = 8; });
  expect_refused([](ConversationPack& pack, Members&) { pack.pictures = 3; });
  expect_refused([](ConversationPack&, Members& of) { of[1].sample = 10; });
  expect_refused([](ConversationPack&, Members& of) { of[1].sample = 2; });
  expect_refused([](ConversationPack&, Members& of) { of[0].tokens = 0; });
  expect_refused([](ConversationPack& pack, Members& of) {
    of[0].tokens = 17;
    pack.tokens = 21;
    pack.squares = 17 * 17 + 16;
  });
}

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
    for (int k = got.used; k < kRow; ++k) {
      EXPECT_EQ(ids[k], 0);
      EXPECT_EQ(labels[k], kIgnoreLabel);
      EXPECT_EQ(segment_at[k], k);
    }
    for (int k = got.pictures; k < kPictures; ++k) {
      EXPECT_EQ(image_at[k], -1);
      const uint8_t* pixels = b.Find("pixels")->Row(row) + k * 432;
      EXPECT_EQ(std::count(pixels, pixels + 432, 0), 432);
    }
    return got;
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
