// Flat indexes, manifests and exclusions: the same samples as from headers, and nothing that does not fit is used.
#include "dataloader/manifest.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/data_set.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

class ManifestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int first = 0;
    for (int shard = 0; shard < 3; ++shard) {
      const int count = 5 + 7 * shard;
      WriteShard(Path("t-" + std::to_string(shard) + ".tar"), MakeSamples(first, count, 16));
      first += count;
    }
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  std::string Shards() const { return Path("t-{0..2}.tar"); }
  std::unique_ptr<DataSet> Open(const std::string& pattern) const {
    auto set = DataSet::Open({pattern}, "test");
    EXPECT_TRUE(set.ok()) << set.status();
    return set.ok() ? std::move(*set) : nullptr;
  }

  // Shards with their indexes beside them, and a manifest.
  void WriteManifest() {
    auto writer = ManifestWriter::Create(Path("t.manifest"));
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (int shard = 0; shard < 3; ++shard) {
      const std::string name = "t-" + std::to_string(shard) + ".tar";
      auto file = ShardFile::Open(Path(name));
      ASSERT_TRUE(file.ok()) << file.status();
      auto index = ShardIndex::BuildWithChecksums(**file);
      ASSERT_TRUE(index.ok()) << index.status();
      ASSERT_TRUE(index->WriteBeside(**file).ok());
      std::vector<SamplePlace> places;
      for (int64_t i = 0; i < index->num_samples(); ++i)
        places.push_back({index->sample(i).begin, index->sample(i).size, index->sample(i).crc});
      ASSERT_TRUE((*writer)
                      ->Add({name, (*file)->size(), places.size(), index->contents_crc()}, places)
                      .ok());
    }
    ASSERT_TRUE((*writer)->Finish().ok());
  }

  testing::TempDir dir_;
};

TEST_F(ManifestTest, GivesWhatTheShardsGive) {
  const auto plain = Open(Shards());
  WriteManifest();
  const auto indexed = Open(Shards());
  const auto set = Open(Path("t.manifest"));
  ASSERT_TRUE(plain && indexed && set);
  EXPECT_EQ(set->manifest_hash(), plain->manifest_hash());
  EXPECT_EQ(indexed->manifest_hash(), plain->manifest_hash());
  EXPECT_EQ(set->ShardSizes(), plain->ShardSizes());
  const std::vector<std::string> extensions = {"jpg"};
  std::string a;
  std::string b;
  for (int64_t id = 0; id < plain->num_samples(); ++id) {
    EXPECT_EQ(set->key(id), plain->key(id));
    ASSERT_TRUE(plain->ReadMember(id, extensions, &a).ok());
    ASSERT_TRUE(set->ReadMember(id, extensions, &b).ok());
    EXPECT_EQ(a, b);
  }
}

TEST_F(ManifestTest, PlacesHoldTheBytesAndTheirChecksums) {
  WriteManifest();
  const auto manifest = Manifest::Open(Path("t.manifest"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  for (int64_t id = 0; id < (*manifest)->num_samples(); ++id) {
    const auto located = (*manifest)->Locate(id);
    ASSERT_TRUE(located.ok()) << located.status();
    const LocatedSample& sample = *located;
    const std::string tar = ReadBytes((*manifest)->ShardPath(sample.shard));
    const std::string bytes = tar.substr(sample.place.offset, sample.place.size);
    EXPECT_EQ(Crc32c(bytes.data(), bytes.size()), sample.place.crc);
    EXPECT_EQ(bytes.substr(0, 11),
              "s0000" + std::string(id < 10 ? "0" : "") + std::to_string(id) + ".jpg");
  }
}

TEST_F(ManifestTest, AnIndexOfOtherBytesIsNotUsed) {
  WriteManifest();
  const std::string index = ReadBytes(Path("t-1.tar.index"));
  const auto plain = Open(Shards());
  // Broken anywhere, or cut: the headers are read instead.
  for (const size_t at : {size_t{3}, size_t{20}, index.size() - 40, index.size() - 1}) {
    std::string broken = index;
    broken[at] = static_cast<char>(broken[at] ^ 0x41);
    WriteBytes(Path("t-1.tar.index"), broken);
    const auto set = Open(Shards());
    ASSERT_TRUE(set);
    EXPECT_EQ(set->manifest_hash(), plain->manifest_hash()) << at;
  }
  WriteBytes(Path("t-1.tar.index"), index.substr(0, index.size() / 2));
  EXPECT_EQ(Open(Shards())->manifest_hash(), plain->manifest_hash());
  // Another shard behind the same index.
  WriteBytes(Path("t-1.tar.index"), index);
  WriteShard(Path("t-1.tar"), MakeSamples(50, 12, 16));
  EXPECT_EQ(Open(Shards())->key(5), "s000050");
  const auto stale = DataSet::Open({Path("t.manifest")}, "test");
  EXPECT_EQ(stale.status().code(), StatusCode::kCorruption);
  EXPECT_NE(stale.status().message().find("weft data index"), std::string::npos) << stale.status();
}

TEST_F(ManifestTest, ExclusionsAreStackedAndChangeTheHash) {
  WriteManifest();
  auto manifest = Manifest::Open(Path("t.manifest"));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const std::string before = (*manifest)->hash();
  auto count = (*manifest)->Exclude({{1, 0}, {0, 4}, {2, 18}, {0, 4}});
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 3);
  const std::string once = (*manifest)->hash();
  count = (*manifest)->Exclude({{1, 0}, {1, 1}});
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 1);
  EXPECT_NE(once, before);
  EXPECT_NE((*manifest)->hash(), once);
  const auto set = Open(Path("t.manifest"));
  ASSERT_TRUE(set);
  EXPECT_EQ(set->manifest_hash(), (*manifest)->hash());
  EXPECT_EQ(set->num_samples(), 5 + 12 + 19 - 4);
  EXPECT_EQ(set->ShardSizes(), (std::vector<uint64_t>{4, 10, 18}));
  std::set<std::string> keys;
  for (int64_t id = 0; id < set->num_samples(); ++id) keys.insert(std::string(set->key(id)));
  EXPECT_EQ(keys.size(), 32u);
  for (const char* gone : {"s000004", "s000005", "s000006", "s000035"})
    EXPECT_EQ(keys.count(gone), 0u);
  EXPECT_EQ((*manifest)->Exclude({{3, 0}}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(ManifestTest, RefusesAFileThatWasCutOrChanged) {
  WriteManifest();
  const std::string text = ReadBytes(Path("t.manifest"));
  for (size_t cut = 0; cut < text.size(); cut += 7) {
    WriteBytes(Path("t.manifest"), text.substr(0, cut));
    EXPECT_FALSE(Manifest::Open(Path("t.manifest")).ok()) << cut;
  }
  std::string changed = text;
  changed[text.find("t-1")] = 'u';
  WriteBytes(Path("t.manifest"), changed);
  EXPECT_EQ(Manifest::Open(Path("t.manifest")).status().code(), StatusCode::kCorruption);
  WriteBytes(Path("t.manifest"), text);
  WriteBytes(Path("t.manifest.places"), ReadBytes(Path("t.manifest.places")) + "x");
  EXPECT_EQ(Manifest::Open(Path("t.manifest")).status().code(), StatusCode::kCorruption);
}

TEST_F(ManifestTest, CommandsIndexExcludeAndProve) {
  const std::string before = Open(Shards())->manifest_hash();
  ASSERT_EQ(DataCommand({"index", Shards(), "--out", Path("c.manifest")}), 0);
  EXPECT_TRUE(std::filesystem::exists(Path("t-2.tar.index")));
  EXPECT_EQ(Open(Path("c.manifest"))->manifest_hash(), before);
  WriteBytes(Path("keys"), "s000003\ns000030\r\n\n");
  ASSERT_EQ(DataCommand({"exclude", Path("c.manifest"), "--keys", Path("keys")}), 0);
  EXPECT_EQ(Open(Path("c.manifest"))->num_samples(), 34);
  EXPECT_NE(Open(Path("c.manifest"))->manifest_hash(), before);
  WriteBytes(Path("keys"), "s000001\nno-such\n");
  EXPECT_EQ(DataCommand({"exclude", Path("c.manifest"), "--keys", Path("keys")}), 1);
  EXPECT_EQ(Open(Path("c.manifest"))->num_samples(), 34);
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"order", Path("c.manifest"), "--batch", "8", "--slots", "4", "--prove",
                         "--chunk", "2"}),
            0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("each of 34 samples"), std::string::npos);
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"order", Path("c.manifest"), "--batch", "8", "--steps", "2"}), 0);
  const std::string shown = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(std::count(shown.begin(), shown.end(), '\n'), 17);
  EXPECT_EQ(DataCommand({"order", Path("c.manifest")}), 2);
}

TEST_F(ManifestTest, LintNamesWhatIsWrong) {
  EXPECT_EQ(DataCommand({"lint", Shards()}), 0);
  auto samples = MakeSamples(0, 6, 16);
  samples[1].second["jpg"] = "<html>404</html>";
  samples[2].second["jpg"] = "";
  samples[3].second["txt"] = " \n";
  samples[4].second["jpg"] = EncodePng(MakeTestImage(8, 8, 1));
  samples[5].second["jpg"].resize(150);
  WriteShard(Path("bad.tar"), samples);
  const std::string bytes = ReadBytes(Path("t-2.tar"));
  WriteBytes(Path("cut.tar"), bytes.substr(0, bytes.size() / 2));
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"lint", Path("bad.tar"), Path("cut.tar"), Path("t-0.tar")}), 1);
  const std::string out = ::testing::internal::GetCapturedStdout();
  for (const char* part : {"HTML", ".jpg is empty", "the caption is empty", ".jpg is PNG",
                           "does not decode", "it was cut", "the key is in"}) {
    EXPECT_NE(out.find(part), std::string::npos) << part << "\n" << out;
  }
}

}  // namespace
}  // namespace weft
