// The tables that say which conversations share a row: what is in them, when they are made anew.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "dataloader/bpe_trainer.h"
#include "dataloader/manifest.h"
#include "dataloader/shard_index.h"
#include "tests/dataloader/packed_conversations.h"

namespace weft {
namespace {

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

}  // namespace
}  // namespace weft
