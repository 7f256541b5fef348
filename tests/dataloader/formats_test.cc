// Formats of other tools: files that they wrote (foreign/, by tests/crosscheck/loader_crosscheck.py) hold the samples that
// they put in, by hash; what is broken or refused says so.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "cli/data_command.h"
#include "cli/histogram.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/data_set.h"
#include "dataloader/energon.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/json_records.h"
#include "dataloader/region_features.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

const std::string kForeign = std::string(WEFT_SOURCE_DIR) + "/tests/dataloader/foreign";

std::string Bytes(const DataSet& set, int64_t id, const std::string& extension) {
  std::string bytes;
  const Status status = set.ReadMember(id, std::array{extension}, &bytes);
  return status.ok() ? bytes : status.ToString();
}

// "key extension hash" of every member, for each of the lists of files.
std::set<std::string> HashesOf(const std::string& files) {
  std::set<std::string> lines;
  std::vector<std::string> paths;
  for (const std::string& file : Split(files, ';')) paths.push_back(kForeign + "/" + file);
  auto set = DataSet::Open(paths, "test");
  EXPECT_TRUE(set.ok()) << set.status();
  if (!set.ok()) return lines;
  for (int64_t id = 0; id < (*set)->num_samples(); ++id) {
    for (const std::string& extension : (*set)->Extensions(id))
      lines.insert(std::string((*set)->key(id)) + "\t" + extension + "\t" +
                   Sha256Hex(Bytes(**set, id, extension)));
  }
  return lines;
}

TEST(ForeignFormats, HoldWhatTheirToolsPutIn) {
  std::map<std::string, std::set<std::string>> expected;
  for (const std::string& line : Split(ReadBytes(kForeign + "/hashes.tsv"), '\n')) {
    if (!line.empty())
      expected[line.substr(0, line.find('\t'))].insert(line.substr(line.find('\t') + 1));
  }
  EXPECT_EQ(expected.size(), 9U);
  for (const auto& [files, lines] : expected) EXPECT_EQ(HashesOf(files), lines) << files;
}

class FormatsTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  std::string Write(const std::string& name, const std::string& bytes) const {
    WriteBytes(Path(name), bytes);
    return Path(name);
  }
  std::unique_ptr<DataSet> Open(const std::string& path) const {
    auto set = DataSet::Open({path}, "test");
    EXPECT_TRUE(set.ok()) << set.status();
    return set.ok() ? std::move(*set) : nullptr;
  }
  std::string ErrorOf(const std::string& path) const {
    auto set = DataSet::Open({path}, "test");
    return set.ok() ? "none" : set.status().ToString();
  }

  testing::TempDir dir_;
};

std::string U32(const std::vector<uint32_t>& values) {
  return {reinterpret_cast<const char*>(values.data()), 4 * values.size()};
}

// A shard with one column of variable size.
std::string Mds(const std::string& encoding, const std::vector<std::string>& values) {
  const std::string config = R"({"column_names":["Text"],"column_encodings":[")" + encoding +
                             R"("],"column_sizes":[null]})";
  std::vector<uint32_t> offsets;
  std::string samples;
  const size_t head = 4 + 4 * (values.size() + 1) + config.size();
  for (const std::string& value : values) {
    offsets.push_back(static_cast<uint32_t>(head + samples.size()));
    samples += U32({static_cast<uint32_t>(value.size())}) + value;
  }
  offsets.push_back(static_cast<uint32_t>(head + samples.size()));
  return U32({static_cast<uint32_t>(values.size())}) + U32(offsets) + config + samples;
}

TEST_F(FormatsTest, MdsColumnsAreMembers) {
  const auto set = Open(Write("shard.00000.mds", Mds("str", {"one", "", "three"})));
  ASSERT_TRUE(set);
  ASSERT_EQ(set->num_samples(), 3);
  EXPECT_EQ(set->key(2), "shard.00000/2");
  EXPECT_EQ(Bytes(*set, 0, "text"), "one");
  EXPECT_EQ(Bytes(*set, 1, "text"), "");
  EXPECT_EQ(Bytes(*set, 2, "text"), "three");
}

TEST_F(FormatsTest, MdsRefusesPickledColumnsAndBrokenSizes) {
  EXPECT_NE(ErrorOf(Write("a.mds", Mds("pkl", {"x"}))).find("pickled"), std::string::npos);
  std::string broken = Mds("str", {"one", "two"});
  const size_t size_of_two = broken.size() - 7;
  broken[size_of_two] = 100;
  const std::string error = ErrorOf(Write("b.mds", broken));
  EXPECT_NE(error.find("byte " + std::to_string(size_of_two + 4)), std::string::npos) << error;
  EXPECT_NE(error.find("column 'text' has 100 bytes"), std::string::npos) << error;
  broken = Mds("str", {"one", "two"});
  broken[8] = 4;  // where the second sample begins: before the first
  EXPECT_NE(ErrorOf(Write("c.mds", broken)).find("outside the shard"), std::string::npos);
}

TEST_F(FormatsTest, ForeignShardsHaveIndexesAndManifestsAsTarsHave) {
  std::filesystem::copy(kForeign, Path("f"), std::filesystem::copy_options::recursive);
  for (const std::string name : {"mds-zstd-7/index.json", "captions.json", "wds.tar.gz"}) {
    const std::string shards = Path("f/" + name);
    const std::string manifest = Path("f/x.manifest");
    const auto plain = Open(shards);
    ASSERT_EQ(DataCommand({"index", shards, "--out", manifest}), 0);
    const auto indexed = Open(manifest);
    ASSERT_TRUE(plain && indexed);
    EXPECT_EQ(indexed->manifest_hash(), plain->manifest_hash()) << name;
    ASSERT_EQ(indexed->num_samples(), plain->num_samples());
    for (int64_t id = 0; id < plain->num_samples(); ++id) {
      EXPECT_EQ(indexed->key(id), plain->key(id));
      ASSERT_EQ(indexed->Extensions(id), plain->Extensions(id));
      for (const std::string& extension : plain->Extensions(id))
        EXPECT_EQ(Bytes(*indexed, id, extension), Bytes(*plain, id, extension)) << extension;
    }
  }
}

TEST_F(FormatsTest, LintComparesWithWhatTheToolsSay) {
  std::filesystem::copy(kForeign, Path("f"), std::filesystem::copy_options::recursive);
  const std::string mds = Path("f/mds-zstd-7/");
  EXPECT_EQ(DataCommand({"lint", mds + "index.json", "--text-extension", "caption"}),
            1);  // "" is one
  const auto findings = [&] {
    ::testing::internal::CaptureStdout();
    DataCommand({"lint", mds + "index.json", "--text-extension", "none"});
    return ::testing::internal::GetCapturedStdout();
  };
  EXPECT_NE(findings().find("6 samples, 0 findings"), std::string::npos);
  std::string index = ReadBytes(mds + "index.json");
  index[index.rfind("\"sha1\": \"") + 9] ^= 1;  // of the last compressed file
  WriteBytes(mds + "index.json", index);
  EXPECT_NE(findings().find("its sha1 is"), std::string::npos);
  std::filesystem::remove(Path("f/img2dataset/00001_stats.json"));
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(
      DataCommand({"lint", Path("f/img2dataset/{00000..00001}.tar"), "--text-extension", "none"}),
      1);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("did not finish this shard"),
            std::string::npos);
}

TEST_F(FormatsTest, LintSeesNeighboursThatLookAlike) {
  const auto picture = [](int kind, int quality) {
    return *EncodeJpeg(MakeTestImage(64, 48, kind), quality);
  };
  const auto lint = [this] {
    ::testing::internal::CaptureStdout();
    DataCommand({"lint", Path("a.tar")});
    return ::testing::internal::GetCapturedStdout();
  };
  WriteShard(Path("a.tar"), {{"a", {{"jpg", picture(1, 95)}, {"txt", "x"}}},
                             {"b", {{"jpg", picture(5, 95)}, {"txt", "y"}}}});
  EXPECT_NE(lint().find("0 findings"), std::string::npos) << lint();
  WriteShard(Path("a.tar"), {{"a", {{"jpg", picture(1, 95)}, {"txt", "x"}}},
                             {"b", {{"jpg", picture(5, 95)}, {"txt", "y"}}},
                             {"c", {{"jpg", picture(1, 40)}, {"txt", "z"}}}});
  EXPECT_NE(lint().find("1 pictures look like another in their chunk of 128 (first: 'c' like 'a')"),
            std::string::npos)
      << lint();
}

TEST_F(FormatsTest, CutZstdShardSaysSo) {
  const std::string whole = ReadBytes(kForeign + "/mds-zstd-7/shard.00000.mds.zstd");
  EXPECT_NE(ErrorOf(Write("a.mds.zstd", whole.substr(0, whole.size() / 2))).find("ends too early"),
            std::string::npos);
}

TEST_F(FormatsTest, JsonRecordsNamePicturesAndTexts) {
  WriteBytes(Path("a.png"), "PNG");
  WriteBytes(Path("b.jpg"), "JPG");
  const auto set = Open(Write("nlvr.json",
                              R"([ {"images":["a.png","b"],"sentence":"two \"é\"","label":"True"},
           {"id": 7, "caption":["one","two"], "image":"a.png", "x":"}]{\\"},
           {"id":"doc","texts":[null,"A cat.",null],"images":["a.png",null,"b.jpg"]} ])"));
  ASSERT_TRUE(set);
  ASSERT_EQ(set->num_samples(), 3);
  EXPECT_EQ(set->key(0), "nlvr/0");
  EXPECT_EQ(Bytes(*set, 0, "png"), "PNG");
  EXPECT_EQ(Bytes(*set, 0, "1.jpg"), "JPG");  // the file is b.jpg
  EXPECT_EQ(Bytes(*set, 0, "txt"), "two \"é\"");
  EXPECT_EQ(set->key(1), "7");
  EXPECT_EQ(Bytes(*set, 1, "1.txt"), "two");
  EXPECT_EQ(Bytes(*set, 1, "json"),
            R"({"id": 7, "caption":["one","two"], "image":"a.png", "x":"}]{\\"})");
  EXPECT_EQ(Bytes(*set, 2, "txt"), "<image>\nA cat.\n<image>");
  EXPECT_EQ(Bytes(*set, 2, "1.jpg"), "JPG");
}

TEST_F(FormatsTest, JsonLinesAndFoldersOfPictures) {
  std::filesystem::create_directory(Path("elsewhere"));
  WriteBytes(Path("elsewhere/a.png"), "PNG");
  const std::string path =
      Write("lines.jsonl", "{\"image\":\"a.png\"}\n{\"image\":\"none.png\"}\n");
  EXPECT_NE(Bytes(*Open(path), 0, "png").find("--images DIR"), std::string::npos);
  ASSERT_EQ(DataCommand({"index", path, "--images", Path("elsewhere")}), 0);
  EXPECT_EQ(Bytes(*Open(path), 0, "png"), "PNG");
  EXPECT_TRUE(Bytes(*Open(path), 1, "png").starts_with("CORRUPTION"));
}

TEST_F(FormatsTest, BrokenJsonNamesTheByte) {
  const auto error = [this](const std::string& text) { return ErrorOf(Write("a.json", text)); };
  EXPECT_NE(error(R"([{"id":1},{"id":)").find("byte 10: a record is cut off"), std::string::npos);
  EXPECT_NE(error(R"([{"id":1},{"id":2})").find("byte 18: the list is not closed"),
            std::string::npos);
  EXPECT_NE(error(R"([{"id":1}{"id":2}])").find("byte 9: a ',' is missing"), std::string::npos);
  EXPECT_NE(error(R"([{"id":1},,{"id":2}])").find("byte 10: ','"), std::string::npos);
  EXPECT_NE(error(R"([{"id" 1}])").find("byte 1: a record that is no JSON"), std::string::npos);
  EXPECT_NE(error(R"([{"id":1}, 2])").find("byte 11: '2'"), std::string::npos);
}

TEST_F(FormatsTest, EnergonsIndexMustBeOfTheTar) {
  WriteShard(Path("a.tar"), MakeSamples(0, 4, 16));
  WriteShard(Path("b.tar"), MakeSamples(4, 3, 16));
  std::filesystem::create_directory(Path(".nv-meta"));
  Write(".nv-meta/.info.json", R"({"shard_counts":{"b.tar":3,"a.tar":4}})");
  const auto set = Open(Path(".nv-meta/.info.json"));
  ASSERT_TRUE(set);
  EXPECT_EQ(set->ShardSizes(), (std::vector<uint64_t>{3, 4}));
  auto file = ShardFile::Open(Path("a.tar"));
  auto index = ShardIndex::Build(**file);
  ASSERT_TRUE(WriteEnergonIndex(Path("a.tar"), *index).ok());
  EXPECT_TRUE(CheckEnergonIndex(Path("a.tar"), *index).ok());
  std::string bytes = ReadBytes(Path("a.tar.idx"));
  EXPECT_EQ(bytes.size(), 5U * 8);
  std::filesystem::rename(Path("a.tar.idx"), Path("b.tar.idx"));
  EXPECT_EQ(DataCommand({"index", Path("b.tar")}), 1);
  std::filesystem::remove(Path("b.tar.idx"));
  EXPECT_EQ(DataCommand({"index", Path("b.tar")}), 0);
}

RegionFeatures MakeRegions(size_t count) {
  RegionFeatures regions;
  regions.width = 200;
  regions.height = 100;
  regions.feature_size = 8;
  regions.classes = 3;
  for (size_t i = 0; i < count; ++i) {
    const auto side = static_cast<float>(i);
    regions.boxes.push_back({side, 10, side + 20, 60});
    regions.object_id.push_back(static_cast<int16_t>(i));
    regions.object_confidence.push_back(static_cast<uint16_t>(i));
  }
  regions.features.assign(count * 8, 0x3C00);
  regions.class_probability.assign(count * 3, 0x3800);
  return regions;
}

TEST_F(FormatsTest, RegionFeaturesComeBack) {
  const std::string bytes = SerializeRegionFeatures(MakeRegions(36));
  const auto regions = ParseRegionFeatures(bytes);
  ASSERT_TRUE(regions.ok()) << regions.status();
  EXPECT_EQ(regions->boxes, MakeRegions(36).boxes);
  EXPECT_EQ(regions->object_id, MakeRegions(36).object_id);
  EXPECT_EQ(regions->features, MakeRegions(36).features);
  EXPECT_TRUE(regions->attribute_id.empty());
  EXPECT_EQ(SerializeRegionFeatures(*regions), bytes);
  const std::array<float, 7> geometry = BoxGeometry(*regions, 10);
  EXPECT_FLOAT_EQ(geometry[0], 0.05F);
  EXPECT_FLOAT_EQ(geometry[4], 0.1F);
  EXPECT_FLOAT_EQ(geometry[6], 0.05F);
  EXPECT_FALSE(ParseRegionFeatures(bytes.substr(0, bytes.size() - 1)).ok());
  EXPECT_FALSE(ParseRegionFeatures(bytes + "x").ok());
}

TEST_F(FormatsTest, SamplesHaveMediaTextsAndFields) {
  const std::string jpg = MakeSamples(0, 1, 16)[0].second.at("jpg");
  WriteShard(Path("a.tar"), {{"k",
                              {{"10.jpg", jpg},
                               {"2.jpg", jpg},
                               {"txt", "first"},
                               {"1.txt", "second"},
                               {"regions", SerializeRegionFeatures(MakeRegions(2))},
                               {"json", "{}"}}}});
  const auto sample = Open(Path("a.tar"))->Read(0);
  ASSERT_TRUE(sample.ok()) << sample.status();
  EXPECT_EQ(sample->key, "k");
  ASSERT_EQ(sample->media.size(), 3U);
  EXPECT_EQ(sample->media[0].kind, MediaKind::kRegionFeatures);
  EXPECT_EQ(sample->media[0].width, 200);
  EXPECT_EQ(sample->media[1].name, "2.jpg");
  EXPECT_EQ(sample->media[2].name, "10.jpg");
  EXPECT_EQ(sample->media[2].width, 16);
  EXPECT_EQ(sample->texts, (std::vector<std::string>{"first", "second"}));
  EXPECT_EQ(sample->fields.at("json"), "{}");
}

TEST_F(FormatsTest, CatAndStatsShowThem) {
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"cat", kForeign + "/llava.json", "--key", "r1"}), 0);
  std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(out.find("key   r1"), std::string::npos) << out;
  EXPECT_NE(out.find("PNG, 25 x 18"), std::string::npos) << out;
  EXPECT_EQ(DataCommand({"cat", kForeign + "/wds.tar", "--first", "1", "--member", "txt", "--out",
                         Path("out.txt")}),
            0);
  EXPECT_EQ(ReadBytes(Path("out.txt")), "zwei Hunde über Flüsse");
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"stats", kForeign + "/wds.tar"}), 0);
  out = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(out.find("2 JPEG 2 PNG 2 WebP"), std::string::npos) << out;
  EXPECT_NE(out.find("characters of a text"), std::string::npos) << out;
}

TEST(Histogram, BarsAreAsLongAsTheirShare) {
  const std::string text = DrawHistogram("t", {0, 1, 1, 1, 1, 12, 12}, HistogramUnit::kNumber);
  EXPECT_NE(text.find("mean 4"), std::string::npos) << text;
  EXPECT_NE(text.find("           0         1 ██████████\n"), std::string::npos) << text;
  EXPECT_NE(text.find("           1         4 " +
                      [] {
                        std::string bar;
                        for (int i = 0; i < 40; ++i) bar += "█";
                        return bar;
                      }() +
                      "\n"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace weft
