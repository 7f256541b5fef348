// What files leave open (transparency, orientation, a missing end), and what leaves the loader.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "dataloader/augment.h"
#include "dataloader/exif.h"
#include "dataloader/normalise.h"
#include "tests/dataloader/jpeg_oracle.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

// A 2-byte-aligned Exif block with one tag; little- or big-endian.
std::string ExifBlock(int orientation, bool little) {
  const auto number = [&](uint32_t value, int size) {
    std::string out;
    for (int i = 0; i < size; ++i)
      out += static_cast<char>(value >> (8 * (little ? i : size - 1 - i)) & 255);
    return out;
  };
  std::string out = little ? "II" : "MM";
  out += number(42, 2) + number(8, 4) + number(1, 2);
  out += number(0x0112, 2) + number(3, 2) + number(1, 4);
  return out + number(static_cast<uint32_t>(orientation), 2) + number(0, 2) + number(0, 4);
}

std::string WithExif(const std::string& jpeg, int orientation, bool little) {
  const std::string body = std::string("Exif\0\0", 6) + ExifBlock(orientation, little);
  const size_t length = body.size() + 2;
  std::string segment = "\xFF\xE1";
  segment += static_cast<char>(length >> 8);
  segment += static_cast<char>(length & 255);
  return jpeg.substr(0, 2) + segment + body + jpeg.substr(2);
}

// Eight-by-eight blocks of flat colour: the corners are told apart after JPEG.
Image Corners(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const uint8_t value =
          static_cast<uint8_t>((x < width / 2 ? 40 : 120) + (y < height / 2 ? 0 : 100));
      image.rgb.insert(image.rgb.end(), 3, value);
    }
  }
  return image;
}

// Values of the picture's corners: top left, top right, bottom left, bottom right.
std::vector<int> CornersOf(const Image& image) {
  const auto at = [&](int x, int y) {
    return image.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) +
                          static_cast<size_t>(x))];
  };
  return {at(0, 0), at(image.width - 1, 0), at(0, image.height - 1),
          at(image.width - 1, image.height - 1)};
}

TEST(Exif, TurnsPicturesUpright) {
  const Image image = Corners(32, 16);
  const std::string jpeg = EncodeJpegAs(image, {.quality = 95});
  // By the tag's definition: which stored corner is seen top left, top right, bottom left, bottom right.
  const int expected[8][4] = {{40, 120, 140, 220}, {120, 40, 220, 140}, {220, 140, 120, 40},
                              {140, 220, 40, 120}, {40, 140, 120, 220}, {140, 40, 220, 120},
                              {220, 120, 140, 40}, {120, 220, 40, 140}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool little : {false, true}) {
      const std::string bytes = WithExif(jpeg, orientation, little);
      ASSERT_EQ(ReadOrientation(bytes), orientation);
      ImageDecoder decoder(DecodePolicy{.apply_exif = true});
      Image upright;
      ASSERT_TRUE(decoder.Decode(bytes, 1, &upright).ok());
      EXPECT_EQ(upright.width, orientation >= 5 ? 16 : 32);
      EXPECT_EQ(decoder.Info(bytes)->width, upright.width);
      const std::vector<int> corners = CornersOf(upright);
      for (size_t i = 0; i < 4; ++i)
        EXPECT_NEAR(corners[i], expected[orientation - 1][i], 3) << orientation << " " << i;
      Image stored;
      ASSERT_TRUE(ImageDecoder().Decode(bytes, 1, &stored).ok());
      EXPECT_EQ(stored.width, 32);
    }
  }
}

TEST(Exif, BrokenBlocksCountAsUpright) {
  const std::string jpeg = EncodeJpegAs(Corners(16, 16), {});
  EXPECT_EQ(ReadOrientation(jpeg), 1);
  EXPECT_EQ(ReadOrientation(WithExif(jpeg, 9, true)), 1);
  const std::string good = WithExif(jpeg, 6, true);
  for (size_t size = 0; size < good.size(); ++size) {
    const int orientation = ReadOrientation(good.substr(0, size));
    EXPECT_TRUE(orientation == 1 || orientation == 6) << size;
  }
}

TEST(DecodePolicy, AlphaIsDroppedOrOverWhite) {
  const std::string webp = EncodeWebp(1, 1, {10, 20, 30, 0});
  Image image;
  ASSERT_TRUE(ImageDecoder().Decode(webp, 1, &image).ok());
  EXPECT_EQ(image.rgb, (std::vector<uint8_t>{255, 255, 255}));
  PngSpec spec;
  spec.width = spec.height = 1;
  spec.color_type = 6;
  spec.samples = {10, 20, 30, 0};
  ASSERT_TRUE(
      ImageDecoder(DecodePolicy{.drop_alpha = true}).Decode(EncodePng(spec), 1, &image).ok());
  EXPECT_EQ(image.rgb, (std::vector<uint8_t>{10, 20, 30}));
}

TEST(DecodePolicy, CutOffJpegsByTheirShareOfRows) {
  const Image image = MakeBusyImage(64, 256, 1, 10);
  for (const bool progressive : {false, true}) {
    const std::string whole = EncodeJpegAs(image, {.progressive = progressive});
    Image full;
    ASSERT_TRUE(ImageDecoder().Decode(whole, 1, &full).ok());
    for (const double share : {0.3, 0.6, 0.9}) {
      const std::string cut =
          whole.substr(0, static_cast<size_t>(share * static_cast<double>(whole.size())));
      Image out;
      EXPECT_FALSE(ImageDecoder().Decode(cut, 1, &out).ok());
      const bool taken = ImageDecoder(DecodePolicy{.min_rows = 0.5}).Decode(cut, 1, &out).ok();
      // A progressive file has all rows, coarsely, from early on.
      EXPECT_EQ(taken, progressive || share > 0.5) << share;
      if (!taken) continue;
      EXPECT_EQ(out.height, 256);
      if (!progressive) {
        EXPECT_TRUE(std::equal(out.rgb.begin(), out.rgb.begin() + 3 * 64 * 64, full.rgb.begin()));
      }
    }
    // Wrong codes are no missing end.
    std::string broken = whole.substr(0, whole.size() / 2) + std::string(200, '\x55') +
                         whole.substr(whole.size() / 2 + 200);
    broken.insert(whole.size() / 2, "\xFF\xD9");
    Image out;
    EXPECT_FALSE(ImageDecoder(DecodePolicy{.min_rows = 0.1}).Decode(broken, 1, &out).ok());
  }
}

TEST(PixelWriter, NormalisesAsAModelDoes) {
  std::vector<uint8_t> planes(3 * 256);
  for (size_t i = 0; i < planes.size(); ++i) planes[i] = static_cast<uint8_t>(i);
  AugmentRecipe recipe;
  recipe.set_pixel_type(AugmentRecipe::FP32_NORMALISED);
  std::vector<float> floats(planes.size());
  PixelWriter(recipe).Write(planes.data(), 256, reinterpret_cast<uint8_t*>(floats.data()));
  // However the output lies.
  std::vector<float> shifted(planes.size() + 1);
  PixelWriter(recipe).Write(planes.data(), 256, reinterpret_cast<uint8_t*>(shifted.data() + 1));
  EXPECT_TRUE(std::equal(floats.begin(), floats.end(), shifted.begin() + 1));
  EXPECT_NEAR(floats[255], (1 - 0.48145466) / 0.26862954, 1e-6);
  EXPECT_NEAR(floats[512], -0.40821073 / 0.27577711, 1e-6);
  recipe.set_pixel_type(AugmentRecipe::BF16_NORMALISED);
  std::vector<uint16_t> halves(planes.size());
  PixelWriter(recipe).Write(planes.data(), 256, reinterpret_cast<uint8_t*>(halves.data()));
  for (size_t i = 0; i < planes.size(); ++i) {
    const float half = std::bit_cast<float>(static_cast<uint32_t>(halves[i]) << 16);
    EXPECT_LE(std::abs(half - floats[i]), std::abs(floats[i]) / 256 + 1e-7) << i;
  }
}

TEST(EvalResize, SquashTakesTheWholePicture) {
  const Image image = Corners(96, 48);
  AugmentRecipe recipe;
  recipe.set_image_mode(ImageMode::EXACT);
  recipe.set_eval_resize(AugmentRecipe::SQUASH);
  std::vector<uint8_t> planes(3 * 32 * 32);
  ASSERT_TRUE(ImageCooker(recipe).CookForEval(EncodePng(image), 32, planes.data()).ok());
  const Image expected = ResizeImage(image, 32, 32, ResizeFilter::kBicubic);
  for (size_t i = 0; i < 32 * 32; ++i) ASSERT_EQ(planes[i], expected.rgb[3 * i]);
}

}  // namespace
}  // namespace weft
