// Columns over a data set: the values that were given, one hash for all that is laid over, nothing read that is damaged.
#include "dataloader/column_overlay.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include "cli/data_command.h"
#include "dataloader/data_set.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

class OverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteShard(Path("a.tar"), MakeSamples(0, 6, 16));
    WriteShard(Path("b.tar"), MakeSamples(6, 4, 16));
    ASSERT_EQ(DataCommand({"index", Path("a.tar"), Path("b.tar"), "--out", Path("t.manifest")}), 0);
    shard_bytes_ = ReadBytes(Path("a.tar")) + ReadBytes(Path("b.tar"));
  }
  void TearDown() override {
    EXPECT_EQ(ReadBytes(Path("a.tar")) + ReadBytes(Path("b.tar")), shard_bytes_);
  }
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  std::unique_ptr<DataSet> Open() const {
    auto set = DataSet::Open({Path("t.manifest")}, "test");
    EXPECT_TRUE(set.ok()) << set.status();
    return set.ok() ? std::move(*set) : nullptr;
  }
  static std::string Text(const DataSet& set, int64_t id, const std::string& extension = "txt") {
    std::string text;
    const Status status = set.ReadMember(id, std::array{extension}, &text);
    return status.ok() ? text : status.ToString();
  }
  int Overlay(std::vector<std::string> args) const {
    args.insert(args.begin(), {"overlay", Path("t.manifest")});
    return DataCommand(args);
  }

  testing::TempDir dir_;
  std::string shard_bytes_;
};

TEST_F(OverlayTest, NewCaptionsStandBeforeTheShards) {
  const std::string hash = Open()->manifest_hash();
  const std::string old_caption = Text(*Open(), 0);
  WriteBytes(Path("c.jsonl"),
             "{\"key\":\"s000007\",\"txt\":\"a new\\ncaption\",\"clip\":0.5}\n"
             "{\"key\":\"s000002\",\"txt\":\"two\"}\n{\"key\":\"nobody\",\"txt\":\"x\"}\n");
  ASSERT_EQ(Overlay({"--from", Path("c.jsonl"), "--column", "txt"}), 0);
  const auto set = Open();
  EXPECT_NE(set->manifest_hash(), hash);
  EXPECT_EQ(Text(*set, 0), old_caption);
  EXPECT_EQ(Text(*set, 2), "two");
  EXPECT_EQ(Text(*set, 7), "a new\ncaption");
  EXPECT_EQ(set->Read(7)->texts, std::vector<std::string>{"a new\ncaption"});
  // They stack: the last one counts.
  WriteBytes(Path("d.jsonl"), "{\"key\":\"s000002\",\"txt\":\"again\"}\n");
  ASSERT_EQ(Overlay({"--from", Path("d.jsonl"), "--column", "txt"}), 0);
  EXPECT_EQ(Text(*Open(), 2), "again");
  EXPECT_EQ(Text(*Open(), 7), "a new\ncaption");
  EXPECT_NE(Open()->manifest_hash(), set->manifest_hash());
}

TEST_F(OverlayTest, ScoresFilter) {
  std::string lines;
  for (int i = 0; i < 9; ++i)
    lines += "{\"key\":\"s00000" + std::to_string(i) + "\",\"clip\":0." + std::to_string(i) + "}\n";
  WriteBytes(Path("c.jsonl"), lines);
  EXPECT_EQ(Overlay({"--keep", "clip >= 0.35"}), 1);  // there is no such column yet
  ASSERT_EQ(Overlay({"--from", Path("c.jsonl"), "--column", "clip"}), 0);
  EXPECT_EQ(Text(*Open(), 3, "clip"), "0.3");
  EXPECT_EQ(Open()->Extensions(9).size() + 1, Open()->Extensions(3).size());
  ASSERT_EQ(Overlay({"--keep", "clip >= 0.35"}), 0);
  const auto set = Open();
  ASSERT_EQ(set->num_samples(), 6);  // 4 to 8, and 9 without a number
  EXPECT_EQ(set->key(0), "s000004");
  EXPECT_EQ(Text(*set, 0, "clip"), "0.4");
  EXPECT_EQ(set->key(5), "s000009");
}

TEST_F(OverlayTest, WrongUseSaysSo) {
  EXPECT_EQ(Overlay({}), 2);
  EXPECT_EQ(Overlay({"--keep", "clip > 1"}), 2);
  WriteBytes(Path("c.jsonl"), "{\"key\":\"nobody\",\"txt\":\"x\"}\n");
  EXPECT_EQ(Overlay({"--from", Path("c.jsonl")}), 2);
  EXPECT_EQ(Overlay({"--from", Path("c.jsonl"), "--column", "none"}), 1);
  const std::string before = ReadBytes(Path("t.manifest"));
  EXPECT_EQ(Overlay({"--from", Path("c.jsonl"), "--column", "txt"}), 1);
  EXPECT_EQ(ReadBytes(Path("t.manifest")), before);
}

TEST_F(OverlayTest, DamageIsNoticed) {
  WriteBytes(Path("c.jsonl"), "{\"key\":\"s000002\",\"txt\":\"twenty-two\"}\n");
  ASSERT_EQ(Overlay({"--from", Path("c.jsonl"), "--column", "txt"}), 0);
  std::string path;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    if (entry.path().extension() == ".column") path = entry.path();
  }
  const std::string whole = ReadBytes(path);
  std::string bytes = whole;
  bytes[bytes.find("twenty")] = 'T';
  WriteBytes(path, bytes);
  EXPECT_NE(Text(*Open(), 2).find("is damaged"), std::string::npos);
  EXPECT_NE(Text(*Open(), 3), "");
  for (const std::string& broken :
       {whole.substr(0, whole.size() - 9), whole + "x", std::string("WEFTCOL1")}) {
    WriteBytes(path, broken);
    EXPECT_FALSE(DataSet::Open({Path("t.manifest")}, "test").ok());
  }
}

TEST(ColumnOverlay, DenseAndSparseShards) {
  testing::TempDir dir;
  std::vector<ColumnValue> values;
  for (int64_t i = 99; i >= 0; --i) values.push_back({0, i, std::to_string(i)});
  for (int64_t i = 0; i < 100; i += 7) values.push_back({2, i, "s" + std::to_string(i)});
  values.push_back({2, 7, "last"});
  const auto hash = WriteColumnOverlay(dir / "c", "n", 3, values);
  ASSERT_TRUE(hash.ok()) << hash.status();
  const std::vector<uint64_t> samples = {100, 50, 100};
  const auto column = ColumnOverlay::Open(dir / "c", *hash, samples);
  ASSERT_TRUE(column.ok()) << column.status();
  EXPECT_EQ((*column)->num_values(), 115U);
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ((*column)->Read(0, i)->value(), std::to_string(i));
    EXPECT_FALSE((*column)->Has(1, i));
    EXPECT_EQ((*column)->Has(2, i), i % 7 == 0);
  }
  EXPECT_EQ((*column)->Read(2, 7)->value(), "last");
  EXPECT_EQ((*column)->Read(2, 98)->value(), "s98");
  EXPECT_FALSE(ColumnOverlay::Open(dir / "c", std::string(64, '0'), samples).ok());
  EXPECT_FALSE(ColumnOverlay::Open(dir / "c", *hash, std::vector<uint64_t>{100, 50}).ok());
}

}  // namespace
}  // namespace weft
