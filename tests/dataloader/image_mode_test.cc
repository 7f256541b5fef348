// What ImageCooker makes of JPEGs in each mode, against libjpeg-turbo's RGB and the resize that equals Pillow's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "dataloader/augment.h"
#include "tests/dataloader/jpeg_oracle.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

constexpr int kSize = 32;
using Planes = std::vector<uint8_t>;

AugmentRecipe Recipe(double scale_min) {
  AugmentRecipe recipe;
  recipe.set_scale_min(scale_min);
  recipe.set_flip_probability(0.5);
  return recipe;
}

AugmentRecipe InMode(ImageMode mode) {
  AugmentRecipe recipe;
  recipe.set_image_mode(mode);
  return recipe;
}

Planes Cook(ImageMode mode, const std::string& bytes, const AugmentRecipe& recipe, uint64_t id) {
  Planes planes(3 * kSize * kSize);
  ImageCooker cooker(InMode(mode));
  const KeyedRandom random(3, "augment:train", 0);
  const Status status = cooker.CookForTraining(bytes, recipe, random, id, kSize, planes.data());
  EXPECT_TRUE(status.ok()) << status;
  return planes;
}

// Decode all, cut the box out, resize it: in the order of the paper's code.
Planes PillowsWay(const Image& image, const Augmentation& augmentation) {
  Image cut{augmentation.width, augmentation.height, {}};
  for (int y = 0; y < cut.height; ++y) {
    const auto row =
        image.rgb.begin() +
        3 * (static_cast<ptrdiff_t>(augmentation.top + y) * image.width + augmentation.left);
    cut.rgb.insert(cut.rgb.end(), row, row + 3 * cut.width);
  }
  const Image out = ResizeImage(cut, kSize, kSize, ResizeFilter::kBicubic);
  Planes planes(3 * kSize * kSize);
  for (size_t i = 0; i < kSize * kSize; ++i) {
    const size_t column = i % kSize;
    const size_t at = i - column + (augmentation.flip ? kSize - 1 - column : column);
    for (size_t c = 0; c < 3; ++c) planes[c * kSize * kSize + at] = out.rgb[3 * i + c];
  }
  return planes;
}

JpegSpec RandomSpec(std::mt19937* random) {
  JpegSpec spec{static_cast<int>(30 + (*random)() % 70)};
  spec.h = 1 + static_cast<int>((*random)() % 2);
  spec.v = spec.h == 2 ? 1 + static_cast<int>((*random)() % 2) : 1;
  spec.gray = (*random)() % 5 == 0;
  spec.progressive = (*random)() % 5 == 0;
  spec.restart_interval = static_cast<int>((*random)() % 3);
  return spec;
}

TEST(ImageMode, ExactIsDecodeCutResize) {
  std::mt19937 random(11);
  for (uint64_t id = 0; id < 150; ++id) {
    const auto side = [&] { return 1 + static_cast<int>(random() % (id % 3 == 0 ? 20 : 300)); };
    const int width = side();
    const int height = side();
    const std::string bytes =
        EncodeJpegAs(MakeBusyImage(width, height, random(), 15), RandomSpec(&random));
    const AugmentRecipe recipe = Recipe(0.1);
    Image image;
    ASSERT_TRUE(OraclePixels(bytes, 1, &image));
    const KeyedRandom draws(3, "augment:train", 0);
    const Augmentation augmentation = DrawAugmentation(recipe, draws, id, width, height);
    ASSERT_EQ(Cook(ImageMode::EXACT, bytes, recipe, id), PillowsWay(image, augmentation))
        << "picture " << id << " of " << width << "x" << height;
  }
}

// What our own decoder does not take.
TEST(ImageMode, FastOfAProgressiveFileIsLibjpegTurbosScaledPicture) {
  std::mt19937 random(12);
  for (uint64_t id = 0; id < 100; ++id) {
    const int width = 33 + static_cast<int>(random() % 400);
    const int height = 33 + static_cast<int>(random() % 400);
    JpegSpec spec = RandomSpec(&random);
    spec.progressive = true;
    const std::string bytes = EncodeJpegAs(MakeBusyImage(width, height, random(), 15), spec);
    const AugmentRecipe recipe = Recipe(0.3);
    const KeyedRandom draws(3, "augment:train", 0);
    const Augmentation a = DrawAugmentation(recipe, draws, id, width, height);
    int shrink = 1;
    while (shrink < 8 && std::min(a.width, a.height) / (2.0 * shrink) >= kSize) shrink *= 2;
    Image image;
    ASSERT_TRUE(OraclePixels(bytes, shrink, &image));
    const auto axis = [](int begin, int length, int extent, int full) {
      const double ratio = static_cast<double>(extent) / full;
      const double first = begin * ratio;
      const double last = std::min((begin + length) * ratio, static_cast<double>(extent));
      return ResizeAxis{
          first, last, static_cast<int>(first), static_cast<int>(std::ceil(last)), kSize, 0, kSize};
    };
    Planes planes(3 * kSize * kSize);
    Resizer().ToPlanes(image, axis(a.left, a.width, image.width, width),
                       axis(a.top, a.height, image.height, height), ResizeFilter::kBicubic, a.flip,
                       planes.data());
    ASSERT_EQ(Cook(ImageMode::FAST, bytes, recipe, id), planes) << "picture " << id;
  }
}

// A smaller transform is most of what it differs by, and that it shares with the scaled picture of a progressive file, which
// has the same coefficients.
TEST(ImageMode, FastIsAboutAsNearToExactAsTheScaledPicture) {
  std::mt19937 random(13);
  double fast_difference = 0;
  double scaled_difference = 0;
  for (uint64_t id = 0; id < 60; ++id) {
    const int width = 20 + static_cast<int>(random() % 300);
    const int height = 20 + static_cast<int>(random() % 300);
    const Image image = MakeTestImage(width, height, static_cast<int>(id % 5));
    JpegSpec spec = RandomSpec(&random);
    spec.progressive = false;
    const std::string bytes = EncodeJpegAs(image, spec);
    spec.progressive = true;
    const std::string progressive = EncodeJpegAs(image, spec);
    const AugmentRecipe recipe = Recipe(0.3);
    const Planes exact = Cook(ImageMode::EXACT, bytes, recipe, id);
    const Planes fast = Cook(ImageMode::FAST, bytes, recipe, id);
    const Planes scaled = Cook(ImageMode::FAST, progressive, recipe, id);
    for (size_t i = 0; i < fast.size(); ++i) {
      fast_difference += std::abs(fast[i] - exact[i]);
      scaled_difference += std::abs(scaled[i] - exact[i]);
    }
  }
  const double samples = 60.0 * 3 * kSize * kSize;
  std::printf("mean difference from EXACT: FAST %.2f, of the scaled picture %.2f\n",
              fast_difference / samples, scaled_difference / samples);
  EXPECT_LT(fast_difference, scaled_difference + 1.0 * samples);
}

TEST(ImageMode, EveryModeTakesEveryFormat) {
  for (const ImageMode mode : {ImageMode::EXACT, ImageMode::FAST}) {
    for (const auto& [width, height] : {std::pair(1, 1), {3, 200}, {90, 70}}) {
      const Image image = MakeTestImage(width, height, 2);
      for (const std::string& bytes : {EncodePng(image), EncodeJpegAs(image, {})}) {
        Planes planes(3 * kSize * kSize);
        ImageCooker cooker(InMode(mode));
        EXPECT_TRUE(cooker.CookForEval(bytes, kSize, planes.data()).ok());
        EXPECT_TRUE(cooker.CookPadded(bytes, {1, 2, 3}, kSize, planes.data()).ok());
        Cook(mode, bytes, Recipe(0.1), 5);
      }
    }
  }
}

}  // namespace
}  // namespace weft
