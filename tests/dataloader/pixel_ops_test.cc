// Pixel operations and fits against what Pillow 12.3 and OpenCV 4.10 made of the same picture (CRC32C of the planes;
// `make check-images` compares with the libraries themselves).
#include "dataloader/pixel_ops.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "cluster/base/hash.h"
#include "dataloader/augment.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

constexpr int kWidth = 31;
constexpr int kHeight = 23;

std::vector<uint8_t> Picture() {
  std::vector<uint8_t> planes;
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < kHeight; ++y) {
      for (int x = 0; x < kWidth; ++x) {
        const int pattern = x * 7 + y * (5 + c) * 3 + x * y % (29 + c);
        planes.push_back(static_cast<uint8_t>(40 + pattern % (120 + 30 * c)));
      }
    }
  }
  return planes;
}

uint32_t Crc(const std::vector<uint8_t>& planes) { return Crc32c(planes.data(), planes.size()); }

uint32_t After(const std::function<void(const PixelPlanes&)>& change) {
  std::vector<uint8_t> planes = Picture();
  change({planes.data(), kWidth, kHeight});
  return Crc(planes);
}

uint32_t After(const DrawnOp& op) {
  return After([&](const PixelPlanes& planes) {
    std::vector<uint8_t> scratch;
    ApplyOp(op, planes, &scratch);
  });
}

TEST(PixelOps, EqualPillowsAndOpenCvs) {
  ASSERT_EQ(Crc(Picture()), 0xad4a197e);
  EXPECT_EQ(After({PixelOp::kIdentity, 0}), 0xad4a197e);
  EXPECT_EQ(After({PixelOp::kAutoContrast, 0}), 0xe62206e5);
  EXPECT_EQ(After({PixelOp::kEqualize, 0}), 0x28434531);
  EXPECT_EQ(After({PixelOp::kBrightness, 1.36}), 0xbbd4d41f);
  EXPECT_EQ(After({PixelOp::kBrightness, 0.4}), 0xfd7e720b);
  EXPECT_EQ(After({PixelOp::kSharpness, 1.36}), 0xd5df91e6);
  EXPECT_EQ(After({PixelOp::kSharpness, 0.28}), 0x0dec9e3c);
  EXPECT_EQ(After({PixelOp::kShearX, 0.21}), 0x93387cd1);
  EXPECT_EQ(After({PixelOp::kShearY, -0.15}), 0xcc348279);
  EXPECT_EQ(After({PixelOp::kTranslateX, 7}), 0xafbb8829);
  EXPECT_EQ(After({PixelOp::kTranslateY, -3.5}), 0x183405b2);
  EXPECT_EQ(After({PixelOp::kRotate, 21}), 0xa3fbf0dd);
  EXPECT_EQ(After([](const PixelPlanes& p) { AdjustContrast(1.7, p); }), 0x6ddd2c66);
  EXPECT_EQ(After([](const PixelPlanes& p) { AdjustSaturation(0.3, p); }), 0xf35b8da3);
}

TEST(RandAugment, DrawsEachOperationHalfTheTimeWithItsStrength) {
  RandAugmentRecipe recipe;
  recipe.set_operations(2);
  recipe.set_magnitude(7);
  const KeyedRandom random(1, "augment:train", 0);
  std::array<int, kNumPixelOps> counts{};
  std::set<double> rotations;
  const uint64_t samples = 4000;
  for (uint64_t id = 0; id < samples; ++id) {
    for (const DrawnOp& op : DrawRandAugment(recipe, random, id, 128)) {
      ++counts[static_cast<size_t>(op.op)];
      if (op.op == PixelOp::kRotate) rotations.insert(op.strength);
      if (op.op == PixelOp::kBrightness) {
        EXPECT_DOUBLE_EQ(op.strength, 1.36);
      }
    }
  }
  // Two draws of ten operations, half of them done: a tenth of the samples each.
  for (const int count : counts) EXPECT_NEAR(count, 400, 80);
  EXPECT_EQ(rotations, (std::set<double>{-21, 21}));
}

TEST(Fits, ShorterSideSizesAreViltsOwn) {
  const auto size = [](int width, int height) {
    const PictureSize size = ShorterSideSize(width, height, 384, 640, 32);
    return std::pair(size.width, size.height);
  };
  EXPECT_EQ(size(640, 480), std::pair(512, 384));
  EXPECT_EQ(size(480, 640), std::pair(384, 512));
  EXPECT_EQ(size(1000, 200), std::pair(640, 128));
  EXPECT_EQ(size(300, 300), std::pair(384, 384));
  EXPECT_EQ(size(333, 500), std::pair(384, 576));
  EXPECT_EQ(size(50, 41), std::pair(448, 384));
  EXPECT_EQ(size(10000, 2), std::pair(640, 32));
}

TEST(Fits, ShorterSideResizesTheWholePicture) {
  const Image image = MakeTestImage(100, 60, 2);
  AugmentRecipe recipe;
  recipe.set_image_mode(ImageMode::EXACT);
  std::vector<uint8_t> planes;
  const auto size = ImageCooker(recipe).CookShorterSide(EncodePng(image), 32, 64, 8, &planes);
  ASSERT_TRUE(size.ok());
  const Image expected = ResizeImage(image, size->width, size->height, ResizeFilter::kBicubic);
  ASSERT_EQ(planes.size(), expected.rgb.size());
  for (size_t i = 0; i < planes.size() / 3; ++i) ASSERT_EQ(planes[i], expected.rgb[3 * i]);
}

}  // namespace
}  // namespace weft
