#include "dataloader/pack/pack_shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <vector>

#include "cluster/base/file_system.h"
#include "dataloader/data_set.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> Captions(const std::string& path) {
  const std::string txt[] = {"txt"};
  const auto data = DataSet::Open({path}, "shards");
  EXPECT_TRUE(data.ok()) << data.status();
  std::vector<std::string> captions;
  for (int64_t id = 0; id < (*data)->num_samples(); ++id) {
    captions.emplace_back();
    EXPECT_TRUE((*data)->ReadMember(id, txt, &captions.back()).ok());
  }
  return captions;
}

std::array<int, 3> PixelAt(const Image& image, double x, double y) {
  const auto column = static_cast<size_t>(x * image.width);
  const auto row = static_cast<size_t>(y * image.height);
  const size_t at = 3 * (row * static_cast<size_t>(image.width) + column);
  return {image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]};
}

TEST(PackShapes, CaptionsSayWhatIsDrawn) {
  int checked = 0;
  for (int64_t number = 0; number < 400; ++number) {
    const ShapePicture picture = DrawShape(1, number, 96);
    if (picture.caption.find("large red") == std::string::npos) continue;
    if (picture.caption.find(" ring ") != std::string::npos) continue;  // its middle is ground
    const double x = picture.caption.find("left") != std::string::npos    ? 0.23
                     : picture.caption.find("right") != std::string::npos ? 0.77
                                                                          : 0.5;
    const double y = picture.caption.find("top") != std::string::npos      ? 0.23
                     : picture.caption.find("bottom") != std::string::npos ? 0.77
                                                                           : 0.5;
    EXPECT_EQ(PixelAt(picture.image, x, y), (std::array<int, 3>{214, 39, 40})) << picture.caption;
    EXPECT_NE(PixelAt(picture.image, 0.01, 0.01), (std::array<int, 3>{214, 39, 40}));
    ++checked;
  }
  EXPECT_GT(checked, 10);
}

TEST(PackShapes, TheSameOptionsGiveTheSameShardsAndHeldOutCaptionsAreNew) {
  const testing::TempDir one;
  const testing::TempDir two;
  PackShapesOptions options;
  options.pictures = 1500;
  options.side = 32;
  options.out = one.path();
  const auto report = PackShapes(options);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->train + report->held_out + report->dropped_twins, 1500);
  EXPECT_GT(report->held_out, 80);
  EXPECT_TRUE(PackShapes(options)->already_done);
  options.out = two.path();
  ASSERT_TRUE(PackShapes(options).ok());
  std::set<std::string> trained;
  for (const char* name : {"train-000000.tar", "train-000003.tar", "eval-000000.tar"}) {
    EXPECT_EQ(*PosixFileSystem()->ReadFile(one.path() + "/" + name),
              *PosixFileSystem()->ReadFile(two.path() + "/" + name));
    const std::vector<std::string> captions = Captions(one.path() + "/" + name);
    if (std::string(name).starts_with("train")) trained.insert(captions.begin(), captions.end());
    if (std::string(name).starts_with("eval")) {
      EXPECT_EQ(static_cast<int64_t>(captions.size()), report->held_out);
      for (const std::string& caption : captions) EXPECT_EQ(trained.count(caption), 0U) << caption;
    }
  }
  options.seed = 2;
  ASSERT_TRUE(PackShapes(options).ok());
  EXPECT_NE(*PosixFileSystem()->ReadFile(one.path() + "/train-000000.tar"),
            *PosixFileSystem()->ReadFile(two.path() + "/train-000000.tar"));
}

TEST(PackShapes, NamesTheOptionThatIsWrong) {
  PackShapesOptions options;
  EXPECT_THAT(PackShapes(options).status().message(), HasSubstr("--out"));
  options.out = "somewhere";
  options.pictures = 1;
  EXPECT_THAT(PackShapes(options).status().message(), HasSubstr("--pictures"));
  options.pictures = 100;
  options.side = 3;
  EXPECT_THAT(PackShapes(options).status().message(), HasSubstr("--side"));
}

}  // namespace
}  // namespace weft
