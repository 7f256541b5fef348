// `weft data pack SHARDS`: every sample once, the same bytes however often it is killed, the same pixels.
#include "dataloader/pack/pack_samples.h"

#include <gtest/gtest.h>
#include <jpeglib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/hash.h"
#include "dataloader/data_set.h"
#include "dataloader/pack/jpeg_rewrite.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

std::string ProgressiveJpeg(const Image& image) {
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPLE*>(
        &image.rgb[3 * size_t{info.next_scanline} * static_cast<size_t>(image.width)]);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::string result(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&info);
  std::free(bytes);
  return result;
}

TEST(JpegRewrite, KeepsThePixelsOfProgressiveFiles) {
  const std::string progressive = ProgressiveJpeg(MakeTestImage(150, 97, 3));
  ASSERT_TRUE(IsProgressiveJpeg(progressive));
  const auto baseline = ToBaselineJpeg(progressive);
  ASSERT_TRUE(baseline.ok()) << baseline.status();
  EXPECT_FALSE(IsProgressiveJpeg(*baseline));
  ImageDecoder decoder;
  Image before;
  Image after;
  ASSERT_TRUE(decoder.Decode(progressive, 1, &before).ok());
  ASSERT_TRUE(decoder.Decode(*baseline, 1, &after).ok());
  EXPECT_EQ(before.rgb, after.rgb);
  EXPECT_FALSE(ToBaselineJpeg(progressive.substr(0, progressive.size() / 2)).ok());
  EXPECT_FALSE(ToBaselineJpeg("no picture").ok());
}

class PackSamplesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int shard = 0; shard < 3; ++shard) {
      std::vector<TestSample> samples = MakeSamples(20 * shard, 20, 24);
      samples[3].second["jpg"] = ProgressiveJpeg(MakeTestImage(40, 32, shard));
      WriteShard(Path("s-" + std::to_string(shard) + ".tar"), samples);
    }
    options_.sources = {Path("s-{0..2}.tar")};
    options_.samples_per_shard = 9;
    options_.threads = 2;
  }
  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  StatusOr<PackSamplesReport> Pack(const std::string& out) {
    options_.out = Path(out);
    return PackSamples(options_, [](int64_t, int64_t) {});
  }
  // Of all files but the indexes, which hold times: name and hash.
  std::map<std::string, std::string> Files(const std::string& out) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(Path(out))) {
      if (entry.path().extension() != ".index")
        files[entry.path().filename()] = Sha256Hex(ReadBytes(entry.path()));
    }
    return files;
  }
  static std::map<std::string, std::string> Captions(const std::string& shards) {
    std::map<std::string, std::string> captions;
    auto set = DataSet::Open({shards}, "test");
    EXPECT_TRUE(set.ok()) << set.status();
    for (int64_t id = 0; set.ok() && id < (*set)->num_samples(); ++id) {
      std::string text;
      EXPECT_TRUE((*set)->ReadMember(id, std::array{std::string("txt")}, &text).ok());
      EXPECT_TRUE(captions.emplace((*set)->key(id), text).second) << (*set)->key(id);
    }
    return captions;
  }

  testing::TempDir dir_;
  PackSamplesOptions options_;
};

TEST_F(PackSamplesTest, EverySampleOnceInAnotherOrder) {
  const auto report = Pack("out");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->samples, 60);
  EXPECT_EQ(report->shards, 7);
  EXPECT_EQ(report->rewritten, 3);
  EXPECT_EQ(report->left_out, 0);
  EXPECT_EQ(Captions(Path("out/train.manifest")), Captions(Path("s-{0..2}.tar")));
  auto set = DataSet::Open({Path("out/train-000000.tar")}, "test");
  ASSERT_TRUE(set.ok());
  std::set<char> sources;  // tens of "s0000ab"
  for (int64_t id = 0; id < (*set)->num_samples(); ++id) sources.insert((*set)->key(id)[5]);
  EXPECT_GT(sources.size(), 3U);
}

// A second call, other threads, and any number of kills at any time: the same bytes.
TEST_F(PackSamplesTest, KilledPackingsEndWithTheSameBytes) {
  ASSERT_TRUE(Pack("whole").ok());
  options_.threads = 1;
  options_.out = Path("killed");
  int kills = 0;
  for (int delay_us = 500;; delay_us += 700) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(PackSamples(options_, [](int64_t, int64_t) {}).ok() ? 0 : 1);
    ::usleep(static_cast<useconds_t>(delay_us));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ++kills;
  }
  EXPECT_GT(kills, 2);
  EXPECT_EQ(Files("killed"), Files("whole"));
  const auto again = Pack("killed");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->shards_kept, 7);
  EXPECT_EQ(Files("killed"), Files("whole"));
}

TEST_F(PackSamplesTest, OtherOptionsNeedAnotherFolder) {
  ASSERT_TRUE(Pack("out").ok());
  options_.seed = 1;
  const auto report = Pack("out");
  EXPECT_EQ(report.status().code(), StatusCode::kFailedPrecondition) << report.status();
}

TEST_F(PackSamplesTest, ShortSideIsResized) {
  options_.short_side = 16;
  const auto report = Pack("out");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->resized, 60);
  auto set = DataSet::Open({Path("out/train.manifest")}, "test");
  ASSERT_TRUE(set.ok()) << set.status();
  for (int64_t id = 0; id < 60; ++id) {
    const auto sample = (*set)->Read(id);
    ASSERT_TRUE(sample.ok() && sample->media.size() == 1U);
    EXPECT_EQ(std::min(sample->media[0].width, sample->media[0].height), 16);
  }
}

TEST_F(PackSamplesTest, EqualKeysStaySamplesOfTheirOwn) {
  WriteBytes(Path("a.json"), R"([{"id":"x.y","caption":"one"},{"id":"z","caption":"two"},
                                 {"id":"x.y","caption":"three"},{"id":"x.y","caption":"four"}])");
  options_.sources = {Path("a.json")};
  ASSERT_TRUE(Pack("out").ok());
  const std::map<std::string, std::string> expected = {
      {"x_y", "one"}, {"x_y_2", "three"}, {"x_y_3", "four"}, {"z", "two"}};
  EXPECT_EQ(Captions(Path("out/train.manifest")), expected);
}

TEST_F(PackSamplesTest, BrokenPicturesAreLeftOut) {
  std::vector<TestSample> samples = MakeSamples(0, 4, 24);
  const std::string progressive = ProgressiveJpeg(MakeTestImage(40, 32, 1));
  samples[1].second["jpg"] = progressive.substr(0, progressive.size() / 2);
  WriteShard(Path("b.tar"), samples);
  options_.sources = {Path("b.tar")};
  const auto report = Pack("out");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->left_out, 1);
  EXPECT_EQ(Captions(Path("out/train.manifest")).size(), 3U);
}

TEST(PackedExtension, NamesWhatTheBytesAre) {
  const std::string png = EncodePng(MakeTestImage(8, 8, 1));
  EXPECT_EQ(PackedExtension("image", png), "png");
  EXPECT_EQ(PackedExtension("2.image", png), "2.png");
  EXPECT_EQ(PackedExtension("mask", png), "mask.png");
  EXPECT_EQ(PackedExtension("jpg", png), "jpg");
  EXPECT_EQ(PackedExtension("1.caption", "a cat"), "1.txt");
  EXPECT_EQ(PackedExtension("json", "{}"), "json");
}

}  // namespace
}  // namespace weft
