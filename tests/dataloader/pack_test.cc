#include "dataloader/pack/pack_openclipart.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/text.h"
#include "dataloader/conversation.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/pack/captions.h"
#include "dataloader/pack/pack_wordnet.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

const PackProgress kQuiet = [](const std::string&, int64_t, int64_t) {};

TEST(Captions, TitleOrStemAndDescription) {
  std::vector<PictureTexts> pictures = {
      {"food/apple_pie_01.png", "Apple Pie 2", "Apple pie", ""},
      {"misc/red-car.png", "Flat Icon", "", ""},
      {"misc/0042.png", "", "", ""},
      {"people/x.png", "Clipart by Nicu - man_face &amp; hat", "Drawn  for a school play.", ""},
      {"people/y.png", "Woman", "write to me@example.org", ""},
  };
  for (int i = 0; i < 8; ++i)
    pictures.push_back({"misc/flat_" + std::to_string(i) + ".png", "Flat Icon", "", ""});
  const CaptionBook book(pictures);
  EXPECT_EQ(book.Caption(pictures[0]), "Apple Pie");  // the description repeats it
  EXPECT_EQ(book.Caption(pictures[1]), "red car");    // nine pictures are called Flat Icon
  EXPECT_EQ(book.Caption(pictures[2]), "misc");
  EXPECT_EQ(book.Caption(pictures[3]), "man face & hat. Drawn for a school play.");
  EXPECT_EQ(book.Caption(pictures[4]), "Woman");
  EXPECT_EQ(DecodePngText("caf\xE9"), "café");
  EXPECT_EQ(DecodePngText("café"), "café");
}

TEST(Captions, SplitIgnoresCaseSpacesAndNumbers) {
  EXPECT_EQ(NormalizeCaption("  Red   Car 12 "), "red car");
  EXPECT_EQ(NormalizeCaption("RED CAR"), "red car");
  int held_out = 0;
  for (int i = 0; i < 5000; ++i) held_out += IsHeldOut("caption " + std::to_string(i) + "x");
  EXPECT_NEAR(held_out / 5000.0, 0.1, 0.02);
}

class PackTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  void AddPng(const std::string& name, int width, int height, int kind, const std::string& title) {
    std::filesystem::create_directories(std::filesystem::path(Path("png/" + name)).parent_path());
    const Image image = MakeTestImage(width, height, kind);
    PngSpec spec{width, height};
    spec.samples.assign(image.rgb.begin(), image.rgb.end());
    if (kind < 0) spec.samples.assign(spec.samples.size(), 250);
    if (!title.empty()) spec.texts = {{"Title", title}, {"Author", "somebody"}};
    WriteBytes(Path("png/" + name), EncodePng(spec));
  }

  // 60 good pictures of 50 captions, and one for each reason to drop.
  void MakeSource() {
    for (int i = 0; i < 60; ++i) {
      AddPng("a/p" + std::to_string(i) + ".png", 40 + i, 60, i,
             "Thing " + std::string(1, static_cast<char>('A' + i % 50 / 25)) +
                 std::string(1, static_cast<char>('a' + i % 25)) + (i < 50 ? "" : " 2"));
    }
    AddPng("a/star.png", 40, 40, 100, "gramastar");
    AddPng("a/denco_x.png", 40, 40, 101, "t");
    AddPng("a/small.png", 40, 31, 102, "t");
    AddPng("a/blank.png", 40, 40, -1, "t");
    AddPng("a/wide.png", 4097, 32, 103, "t");
    std::filesystem::copy_file(Path("png/a/p0.png"), Path("png/a/zz_copy.png"));
    std::filesystem::create_symlink("p1.png", Path("png/a/a_link.png"));
    options_.source = Path("png");
    options_.out = Path("out");
    options_.shards = 2;
    options_.threads = 2;
  }

  testing::TempDir dir_;
  PackOpenclipartOptions options_;
};

TEST_F(PackTest, FiltersSplitsAndIsIdempotent) {
  MakeSource();
  auto report = PackOpenclipart(options_, kQuiet);
  ASSERT_TRUE(report.ok()) << report.status();
  std::string steps;
  for (const auto& step : report->steps)
    steps += std::to_string(step.dropped) + ">" + std::to_string(step.left) + " ";
  EXPECT_EQ(steps, "0>67 2>65 1>64 1>63 1>62 1>61 1>60 ");
  EXPECT_EQ(report->distinct_captions, 50);
  EXPECT_EQ(report->train + report->held_out + report->dropped_twins, 60);
  EXPECT_GT(report->held_out, 0);
  EXPECT_FALSE(report->already_done);

  auto train = DataSet::Open({Path("out/train-{000000..000001}.tar")}, "train");
  auto eval = DataSet::Open({Path("out/eval-000000.tar")}, "eval");
  ASSERT_TRUE(train.ok() && eval.ok()) << train.status() << eval.status();
  EXPECT_EQ((*train)->num_samples(), report->train);
  (*train)->UsePictureChecks({"jpg", "png", "jpeg", "webp"});
  EXPECT_TRUE((*train)->pictures_checked());
  EXPECT_EQ((*eval)->num_samples(), report->held_out);
  const std::vector<std::string> txt = {"txt"};
  const std::vector<std::string> png = {"png"};
  std::string bytes;
  std::set<std::string> eval_captions;
  for (int64_t i = 0; i < (*eval)->num_samples(); ++i) {
    ASSERT_TRUE((*eval)->ReadMember(i, txt, &bytes).ok());
    EXPECT_TRUE(IsHeldOut(NormalizeCaption(bytes)));
    EXPECT_TRUE(eval_captions.insert(NormalizeCaption(bytes)).second);
  }
  for (int64_t i = 0; i < (*train)->num_samples(); ++i) {
    ASSERT_TRUE((*train)->ReadMember(i, txt, &bytes).ok());
    EXPECT_EQ(eval_captions.count(NormalizeCaption(bytes)), 0u) << bytes;
    ASSERT_TRUE((*train)->ReadMember(i, png, &bytes).ok());
    EXPECT_TRUE(ReadImageInfo(bytes).ok());
  }

  const std::string before = ReadBytes(Path("out/train-000000.tar"));
  auto again = PackOpenclipart(options_, kQuiet);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->already_done);
  EXPECT_EQ(again->train, report->train);
  // A shard that is gone or other options: packed anew, to the same bytes.
  std::filesystem::remove(Path("out/train-000000.tar"));
  EXPECT_FALSE(PackOpenclipart(options_, kQuiet)->already_done);
  EXPECT_EQ(ReadBytes(Path("out/train-000000.tar")), before);
  options_.short_side = 32;
  auto short_report = PackOpenclipart(options_, kQuiet);
  ASSERT_TRUE(short_report.ok());
  EXPECT_FALSE(short_report->already_done);
  EXPECT_EQ(short_report->train, report->train);
  train = DataSet::Open({Path("out/train-000000.tar")}, "train");
  const std::vector<std::string> jpg = {"jpg"};
  ASSERT_TRUE((*train)->ReadMember(0, jpg, &bytes).ok());
  auto info = ReadImageInfo(bytes);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->format, ImageFormat::kJpeg);
  EXPECT_EQ(std::min(info->width, info->height), 32);
}

TEST(Captions, ConversationsFollowTheTexts) {
  const auto exchanges = AskAbout("a_b/birds/owl.png", "Owl", "It sits.");
  ASSERT_EQ(exchanges.size(), 3u);
  EXPECT_EQ(exchanges[0].question.rfind("<image>\n", 0), 0u);
  EXPECT_EQ(exchanges[0].answer, "Owl");
  EXPECT_EQ(exchanges[1].answer, "a b, birds");
  EXPECT_EQ(exchanges[2].answer, "It sits.");
  EXPECT_EQ(AskAbout("owl.png", "Owl", "").size(), 1u);
}

TEST_F(PackTest, ConversationsStandBesideThePictures) {
  MakeSource();
  ASSERT_TRUE(PackOpenclipart(options_, kQuiet).ok());
  const std::vector<std::string> json = {"json"};
  const auto first_json = [&] {
    std::string bytes;
    auto set = DataSet::Open({Path("out/train-000000.tar")}, "train");
    EXPECT_TRUE(set.ok() && (*set)->ReadMember(0, json, &bytes).ok());
    return bytes;
  };
  EXPECT_FALSE(ParseConversation(first_json()).ok());
  options_.conversations = true;
  auto report = PackOpenclipart(options_, kQuiet);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(report->already_done);
  auto turns = ParseConversation(first_json());
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->size(), 4u);
  EXPECT_TRUE((*turns)[0].picture);
  EXPECT_EQ((*turns)[1].text.rfind("Thing", 0), 0u);
  EXPECT_EQ((*turns)[3].text, "a");
  EXPECT_TRUE(PackOpenclipart(options_, kQuiet)->already_done);
}

TEST_F(PackTest, ErrorsNameTheFlag) {
  options_.out = Path("out");
  options_.source = Path("nothing");
  EXPECT_NE(PackOpenclipart(options_, kQuiet).status().message().find("--source"),
            std::string::npos);
  options_.shards = 0;
  EXPECT_NE(PackOpenclipart(options_, kQuiet).status().message().find("--shards"),
            std::string::npos);
}

TEST_F(PackTest, CommandsRunEndToEnd) {
  MakeSource();
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"pack", "openclipart", "--source", Path("png"), "--out=" + Path("out"),
                         "--short", "32", "--shards", "2"}),
            0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("training pictures"), std::string::npos);

  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"inspect", Path("out/train-000000.tar"), "--limit", "2"}), 0);
  const std::string table = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(table.find("train-000001"), std::string::npos) << table;
  EXPECT_EQ(table.find("train-000002"), std::string::npos) << table;
  EXPECT_NE(table.find("jpg,json,txt"), std::string::npos) << table;
  EXPECT_NE(table.find(" JPEG"), std::string::npos) << table;
  EXPECT_NE(table.find("Thing"), std::string::npos) << table;

  ::testing::internal::CaptureStdout();
  EXPECT_EQ(DataCommand({"vocab", "--captions-from", Path("out/train-{000000..000001}.tar"),
                         "--size", "530", "--out", Path("v/vocab.txt")}),
            0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("530 entries"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(Path("v/vocab.txt")));
}

TEST_F(PackTest, CommandsSayWhatIsWrong) {
  const auto run = [](const std::vector<std::string>& args, int code) {
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(DataCommand(args), code);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_NE(run({"inspcet"}, 2).find("did you mean `inspect`"), std::string::npos);
  EXPECT_NE(run({"pack", "openclipart", "--shrot", "9"}, 2).find("did you mean --short"),
            std::string::npos);
  EXPECT_NE(run({"pack", "openclipart"}, 2).find("--out: name the folder"), std::string::npos);
  EXPECT_NE(run({"pack", "imagenet"}, 2).find("openclipart"), std::string::npos);
  EXPECT_NE(run({"inspect", Path("none.tar")}, 1).find("none.tar"), std::string::npos);
  EXPECT_NE(run({"vocab", "--size", "x"}, 2).find("--size takes a whole number"),
            std::string::npos);
  WriteShard(Path("s.tar"), MakeSamples(0, 5));
  const std::string whole = ReadBytes(Path("s.tar"));
  WriteBytes(Path("cut.tar"), whole.substr(0, 6000));
  ::testing::internal::CaptureStdout();
  EXPECT_NE(run({"inspect", Path("cut.tar")}, 1).find("cut.tar, byte "), std::string::npos);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("s000000"), std::string::npos);
}

// The real package, where WEFT_OPENCLIPART names it unpacked.
TEST_F(PackTest, TheRealPackageGivesTheKnownCounts) {
  const char* source = std::getenv("WEFT_OPENCLIPART");
  if (source == nullptr)
    GTEST_SKIP() << "WEFT_OPENCLIPART does not name the unpacked package openclipart-png";
  options_.source = source;
  options_.out = Path("out");
  options_.threads = 2;
  auto report = PackOpenclipart(options_, kQuiet);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->steps.back().left, 5475);
  EXPECT_EQ(report->own_titles, 2888);
  EXPECT_EQ(report->train, 4908);
  EXPECT_EQ(report->held_out, 414);
}

TEST(PackWordnet, SplitsGlossesAndIsIdempotent) {
  EXPECT_EQ(GlossSentences("be set back; \"He suffers\"; \"so; it is\" "),
            (std::vector<std::string>{"be set back", "\"He suffers\"", "\"so; it is\""}));
  const testing::TempDir dir;
  const std::string head = "  1 This is the licence | of it.\n";
  std::string nouns = head;
  for (int i = 0; i < 700; ++i) {
    nouns += "000" + std::to_string(i) + " 03 n 01 x 0 000 | gloss " + std::to_string(i) +
             "; \"an example\"  \n";
  }
  WriteBytes(dir.path() + "/data.noun", nouns);
  for (const char* file : {"data.verb", "data.adj", "data.adv"})
    WriteBytes(dir.path() + "/" + file, head);
  PackWordnetOptions options;
  options.source = dir.path();
  options.out = dir.path() + "/out";
  options.shards = 3;
  auto report = PackWordnet(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->train + report->held_out, 700);
  EXPECT_GT(report->held_out, 0);
  EXPECT_EQ(report->sentences, 1400);
  EXPECT_FALSE(report->already_done);
  std::set<std::string> glosses;
  for (const char* file : {"train-000000", "train-000001", "train-000002", "eval-000000"}) {
    for (const std::string& line : Split(ReadBytes(options.out + "/" + file + ".txt"), '\n')) {
      if (line.rfind("gloss", 0) == 0) {
        EXPECT_TRUE(glosses.insert(line).second) << line;
      }
    }
  }
  EXPECT_EQ(glosses.size(), 700u);
  const std::string before = ReadBytes(options.out + "/train-000001.txt");
  EXPECT_TRUE(PackWordnet(options)->already_done);
  std::filesystem::remove(options.out + "/train-000001.txt");
  EXPECT_FALSE(PackWordnet(options)->already_done);
  EXPECT_EQ(ReadBytes(options.out + "/train-000001.txt"), before);
  WriteBytes(dir.path() + "/data.verb", "000 no gloss here\n");
  options.shards = 2;
  EXPECT_NE(PackWordnet(options).status().message().find("data.verb, line 1"), std::string::npos);
}

// The real package, where WEFT_WORDNET names it unpacked.
TEST(PackWordnet, TheRealPackageGivesTheKnownCounts) {
  const char* source = std::getenv("WEFT_WORDNET");
  if (source == nullptr)
    GTEST_SKIP() << "WEFT_WORDNET does not name the unpacked package wordnet-base";
  const testing::TempDir dir;
  const auto report = PackWordnet({source, "", dir.path() + "/out", 8});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->train + report->held_out, 117659);
}

}  // namespace
}  // namespace weft
