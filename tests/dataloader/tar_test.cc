#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "cluster/base/text.h"
#include "dataloader/data_set.h"
#include "dataloader/shard_index.h"
#include "dataloader/tar_reader.h"
#include "dataloader/tar_writer.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

// A header block for tests that need what TarWriter never writes.
std::string Header(const std::string& name, const std::string& size_field, char type,
                   const std::string& magic, const std::string& prefix = "") {
  std::string block(512, '\0');
  const auto put = [&](size_t offset, const std::string& text) {
    block.replace(offset, text.size(), text);
  };
  put(0, name);
  put(124, size_field);
  block[156] = type;
  put(257, magic);
  put(345, prefix);
  put(148, "        ");
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  put(148, std::string(text, 6) + '\0' + ' ');
  return block;
}

std::string Octal(size_t size) {
  char text[16];
  std::snprintf(text, sizeof text, "%011zo", size);
  return text;
}

const std::string kPosix("ustar\00000", 8);
const std::string kGnu("ustar  \0", 8);

std::string Member(const std::string& name, const std::string& data, char type = '0',
                   const std::string& magic = kPosix, const std::string& prefix = "") {
  return Header(name, Octal(data.size()), type, magic, prefix) + data +
         std::string((512 - data.size() % 512) % 512, '\0');
}

std::string PaxRecord(const std::string& key, const std::string& value) {
  const std::string body = " " + key + "=" + value + "\n";
  size_t length = body.size() + 1;
  while (std::to_string(length).size() + body.size() != length) ++length;
  return std::to_string(length) + body;
}

const std::string kEnd(1024, '\0');

class TarTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name = "s.tar") const { return dir_.path() + "/" + name; }

  // "name:data|" of each member, or the error.
  std::string Walk(const std::string& bytes) {
    WriteBytes(Path(), bytes);
    auto file = ShardFile::Open(Path());
    if (!file.ok()) return file.status().ToString();
    TarReader reader(**file);
    std::string out;
    while (true) {
      auto member = reader.Next();
      if (!member.ok()) return out + member.status().ToString();
      if (!member->has_value()) return out;
      std::string data((*member)->size, '\0');
      EXPECT_TRUE((*file)->ReadAt((*member)->data_offset, data.size(), data.data()).ok());
      out += (*member)->name + ":" + data + "|";
    }
  }

  StatusOr<ShardIndex> Index(const std::string& bytes, CutShards cut = CutShards::kRefuse) {
    WriteBytes(Path(), bytes);
    auto file = ShardFile::Open(Path());
    if (!file.ok()) return file.status();
    return ShardIndex::Build(**file, cut);
  }

  testing::TempDir dir_;
};

TEST(SplitMemberName, FollowsWebDataset) {
  const auto split = [](const std::string& name) {
    std::string key;
    std::string extension;
    return SplitMemberName(name, &key, &extension) ? key + " " + extension : "-";
  };
  EXPECT_EQ(split("a/b.seg.png"), "a/b seg.png");
  EXPECT_EQ(split("./000.jpg"), "./000 jpg");
  EXPECT_EQ(split("a.b/c.jpg"), "a.b/c jpg");
  EXPECT_EQ(split("x..jpg"), "x .jpg");
  EXPECT_EQ(split("dir/.hidden"), "dir/ hidden");
  EXPECT_EQ(split("p/dir/.hidden"), "p/dir/ hidden");
  EXPECT_EQ(split("a.b/.hidden"), "-");
  EXPECT_EQ(split("noext"), "-");
  EXPECT_EQ(split(".hidden"), "-");
  EXPECT_EQ(split("a/b.c/d"), "-");
  EXPECT_EQ(split("A.JPG"), "A jpg");
  EXPECT_EQ(split("__info__"), "-");
  EXPECT_EQ(split("__meta__/x.json"), "-");
  EXPECT_EQ(split("__x.jpg"), "__x jpg");
}

TEST_F(TarTest, ReadsUstarPrefixesAndSkipsWhatIsNoFile) {
  EXPECT_EQ(Walk(Member("a.txt", "one") + Member("dir/", "", '5') + Member("link", "", '2') +
                 Member("b.txt", "two", '0', kPosix, "some/dir") +
                 Member("c.txt", "", '\0', std::string(8, '\0')) + Member("old/", "", '\0') +
                 Member("d.txt", std::string(513, 'x'), '7') + kEnd),
            "a.txt:one|some/dir/b.txt:two|c.txt:|d.txt:" + std::string(513, 'x') + "|");
}

TEST_F(TarTest, ReadsLongNamesOfGnuAndPax) {
  const std::string name(200, 'n');
  EXPECT_EQ(Walk(Member("././@LongLink", name + '\0', 'L', kGnu) +
                 Member("short", "gnu", '0', kGnu) + Member("b.txt", "b", '0', kGnu) + kEnd),
            name + ":gnu|b.txt:b|");
  EXPECT_EQ(Walk(Member("pax", PaxRecord("mtime", "1.5") + PaxRecord("path", name), 'x') +
                 Member("short", "pax") + Member("b.txt", "b") + kEnd),
            name + ":pax|b.txt:b|");
  EXPECT_EQ(Walk(Member("g", PaxRecord("comment", "hello"), 'g') + Member("a.txt", "a") + kEnd),
            "a.txt:a|");
  // GNU keeps times where POSIX has the prefix.
  EXPECT_EQ(Walk(Member("a.txt", "a", '0', kGnu, "12345") + kEnd), "a.txt:a|");
}

TEST_F(TarTest, ReadsSizesOfPaxAndBase256) {
  EXPECT_EQ(Walk(Member("pax", PaxRecord("size", "3"), 'x') +
                 Header("a.txt", Octal(0), '0', kPosix) + "abc" + std::string(509, '\0') + kEnd),
            "a.txt:abc|");
  EXPECT_EQ(Walk(Header("a.txt", std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12), '0', kGnu) +
                 "abc" + std::string(509, '\0') + kEnd),
            "a.txt:abc|");
  EXPECT_NE(Walk(Header("a.txt", std::string(12, '\xff'), '0', kGnu) + kEnd).find("size field"),
            std::string::npos);
}

TEST_F(TarTest, RefusesWithTheByte) {
  const std::string good = Member("a.txt", "one");
  EXPECT_NE(Walk(good).find("byte 1024: the shard ends without the zero blocks"),
            std::string::npos);
  EXPECT_NE(Walk(good + Member("b.txt", std::string(3000, 'b')).substr(0, 2000))
                .find("byte 1024: a member of 3000 bytes"),
            std::string::npos);
  std::string wrong = good + good + kEnd;
  wrong[1024 + 3] ^= 1;
  EXPECT_NE(
      Walk(wrong).find("a.txt:one|CORRUPTION: shard " + Path() + ", byte 1024: no tar header"),
      std::string::npos);
  EXPECT_NE(Walk(Member("s", "x", 'S') + kEnd).find("sparse"), std::string::npos);
  EXPECT_NE(Walk(Member("x", "9 path=a\n", 'x') + kEnd).find("after an extended header"),
            std::string::npos);
  EXPECT_NE(Walk(Member("x", "99 path=a\n", 'x') + kEnd).find("PAX"), std::string::npos);
  EXPECT_NE(Walk("").find("byte 0"), std::string::npos);
}

TEST_F(TarTest, InflatesGzip) {
  const std::string tar = Member("a.txt", "one") + kEnd;
  WriteBytes(Path("plain.tar"), tar);
  ASSERT_EQ(std::system(("gzip -c " + Path("plain.tar") + " > " + Path("x.tgz")).c_str()), 0);
  EXPECT_EQ(Walk(ReadBytes(Path("x.tgz"))), "a.txt:one|");
  const std::string cut = ReadBytes(Path("x.tgz"));
  EXPECT_NE(Walk(cut.substr(0, cut.size() - 12)).find("gzip stream"), std::string::npos);
}

TEST_F(TarTest, ASampleIsARunOfOneKey) {
  auto index = Index(Member("a.txt", "1") + Member("a.jpg", "2") + Member("skipped", "") +
                     Member("b.seg.png", "3") + Member("a.txt", "4") + kEnd);
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->num_samples(), 3);
  EXPECT_EQ(index->key(0), "a");
  EXPECT_EQ(index->members(0).size(), 2u);
  ASSERT_NE(index->Find(0, "jpg"), nullptr);
  EXPECT_EQ(index->Find(0, "jpg")->offset, 1024u + 512u);
  EXPECT_EQ(index->Find(0, "png"), nullptr);
  EXPECT_EQ(index->key(1), "b");
  EXPECT_NE(index->Find(1, "seg.png"), nullptr);
  EXPECT_EQ(index->key(2), "a");
  const Status twice = Index(Member("a.txt", "1") + Member("a.TXT", "2") + kEnd).status();
  EXPECT_NE(twice.message().find("sample 'a' has two members .txt"), std::string::npos) << twice;
}

TEST_F(TarTest, ACutShardKeepsItsWholeSamplesOnRequest) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) {
    bytes += Member(std::to_string(i) + ".jpg", std::string(700, 'x')) +
             Member(std::to_string(i) + ".txt", "t");
  }
  bytes += kEnd;
  ASSERT_EQ(Index(bytes)->num_samples(), 4);
  EXPECT_TRUE(Index(bytes)->cut().ok());
  // Sample i spans [2560 i, 2560 (i + 1)). Cut inside sample 2, and right behind its first member.
  for (const size_t size : {2 * 2560 + 100, 2 * 2560 + 1536}) {
    EXPECT_EQ(Index(bytes.substr(0, size)).status().code(), StatusCode::kCorruption);
    auto index = Index(bytes.substr(0, size), CutShards::kKeepWholeSamples);
    ASSERT_TRUE(index.ok());
    EXPECT_FALSE(index->cut().ok());
    // Nobody knows whether a sample at the cut had more members.
    EXPECT_EQ(index->num_samples(), size == 2 * 2560 + 100 ? 1 : 2);
  }
}

TEST_F(TarTest, WritesWhatTarReads) {
  const std::string long_dir = std::string(90, 'd') + "/" + std::string(60, 'e');
  WriteShard(Path(), {{"k/one", {{"txt", "text"}, {"jpg", std::string(1000, 'j')}}},
                      {long_dir + "/two", {{"txt", ""}}}});
  EXPECT_EQ(ReadBytes(Path()).size() % 10240, 0u);
  ASSERT_EQ(std::system(("tar tf " + Path() + " > " + Path("list") + " 2>&1").c_str()), 0);
  EXPECT_EQ(ReadBytes(Path("list")), "k/one.jpg\nk/one.txt\n" + long_dir + "/two.txt\n");
  EXPECT_EQ(Walk(ReadBytes(Path())),
            "k/one.jpg:" + std::string(1000, 'j') + "|k/one.txt:text|" + long_dir + "/two.txt:|");
  const std::string first = ReadBytes(Path());
  WriteShard(Path("again.tar"), {{"k/one", {{"txt", "text"}, {"jpg", std::string(1000, 'j')}}},
                                 {long_dir + "/two", {{"txt", ""}}}});
  EXPECT_EQ(ReadBytes(Path("again.tar")), first);
}

TEST_F(TarTest, AnUnfinishedShardHasNoName) {
  WriteBytes(Path() + ".part", "left by a killed writer");
  {
    auto writer = TarWriter::Create(PosixFileSystem(), Path());
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->AddSample("a", {{"txt", "x"}}).ok());
    EXPECT_FALSE((*writer)->AddSample(std::string(300, 'n'), {{"txt", "x"}}).ok());
    EXPECT_FALSE(PosixFileSystem()->Exists(Path()));
  }
  EXPECT_FALSE(PosixFileSystem()->Exists(Path()));
  EXPECT_FALSE(PosixFileSystem()->Exists(Path() + ".part"));
}

TEST_F(TarTest, DataSetCountsOverShards) {
  WriteShard(Path("s-000.tar"), {{"a", {{"txt", "0"}}}, {"b", {{"txt", "1"}}}});
  WriteShard(Path("s-001.tar"), {});
  WriteShard(Path("s-002.tar"), {{"c", {{"text", "2"}}}});
  EXPECT_EQ(ExpandShardPatterns({"a-{00..02}.tar::b.tar", "c"}),
            (std::vector<std::string>{"a-00.tar", "a-01.tar", "a-02.tar", "b.tar", "c"}));
  EXPECT_EQ(ExpandShardPatterns({Path("s-*.tar")}),
            ExpandShardPatterns({Path("s-{000..002}.tar")}));
  EXPECT_EQ(ExpandShardPatterns({Path("t-*.tar")}), std::vector<std::string>{Path("t-*.tar")});
  auto set = DataSet::Open({Path("s-{000..002}.tar")}, "field");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->num_samples(), 3);
  EXPECT_EQ((*set)->ShardSizes(), (std::vector<uint64_t>{2, 0, 1}));
  const std::vector<std::string> extensions = {"txt", "text"};
  std::string read;
  std::string bytes;
  for (int64_t id = 0; id < 3; ++id) {
    ASSERT_TRUE((*set)->ReadMember(id, extensions, &bytes).ok());
    read += bytes;
  }
  EXPECT_EQ(read, "012");
  EXPECT_EQ((*set)->key(2), "c");
  EXPECT_NE((*set)->Describe(2).find("s-002.tar, sample 'c'"), std::string::npos);
  const Status none = DataSet::Open({Path("s-001.tar")}, "field").status();
  EXPECT_NE(none.message().find("field: no samples"), std::string::npos) << none;
}

// Whatever the bytes: an answer or an error, in bounded time and memory.
TEST_F(TarTest, SurvivesBrokenBytes) {
  const std::string good = Member("pax", PaxRecord("path", "a.txt"), 'x') + Member("short", "one") +
                           Member("././@LongLink", std::string("long.jpg\0", 9), 'L', kGnu) +
                           Member("l", "two", '0', kGnu) +
                           Member("g", PaxRecord("size", "3"), 'g') + Member("b.txt", "three") +
                           kEnd;
  std::mt19937 random(5);
  for (int i = 0; i < FuzzRounds(300); ++i) {
    std::string bytes = good;
    for (unsigned flips = random() % 4 + 1; flips > 0; --flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    // Half of them with checksums that match, so that the fields behind are read.
    if (i % 2 == 0) {
      for (size_t block = 0; block < bytes.size(); block += 512) {
        if (bytes.compare(block + 257, 5, "ustar") != 0) continue;
        bytes.replace(block + 148, 8, 8, ' ');
        unsigned sum = 0;
        for (size_t j = 0; j < 512; ++j) sum += static_cast<unsigned char>(bytes[block + j]);
        char text[8];
        std::snprintf(text, sizeof text, "%06o", sum);
        bytes.replace(block + 148, 7, text, 7);
      }
    }
    if (i % 5 == 0) bytes.resize(random() % bytes.size());
    const auto index = Index(bytes, CutShards::kKeepWholeSamples);
    if (!index.ok()) {
      EXPECT_EQ(index.status().code(), StatusCode::kCorruption);
    }
  }
}

}  // namespace
}  // namespace weft
