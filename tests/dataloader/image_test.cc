#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "cluster/base/hash.h"
#include "dataloader/augment.h"
#include "dataloader/image_decode.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/png_codec.h"
#include "dataloader/resize.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

Image Decode(const std::string& bytes, int shrink = 1) {
  Image image;
  const Status status = ImageDecoder().Decode(bytes, shrink, &image);
  EXPECT_TRUE(status.ok()) << status;
  return image;
}

double MeanDifference(const Image& a, const Image& b) {
  EXPECT_EQ(a.rgb.size(), b.rgb.size());
  double sum = 0;
  for (size_t i = 0; i < std::min(a.rgb.size(), b.rgb.size()); ++i)
    sum += std::abs(a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

TEST(ImageDecode, FormatsAreToldByTheirBytes) {
  const Image image = MakeTestImage(24, 17, 1);
  const std::string jpeg = *EncodeJpeg(image, 95);
  const std::string png = EncodePng(image);
  std::vector<uint8_t> rgba;
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    rgba.insert(rgba.end(), {image.rgb[i], image.rgb[i + 1], image.rgb[i + 2], 255});
  }
  const std::string webp = EncodeWebp(24, 17, rgba);
  const auto describe = [](const std::string& bytes) {
    const auto info = ReadImageInfo(bytes);
    return info.ok() ? std::string(ImageFormatName(info->format)) + std::to_string(info->width) +
                           "x" + std::to_string(info->height)
                     : info.status().message();
  };
  EXPECT_EQ(describe(jpeg), "JPEG24x17");
  EXPECT_EQ(describe(png), "PNG24x17");
  EXPECT_EQ(describe(webp), "WebP24x17");
  EXPECT_EQ(describe("GIF89a......"), "not a JPEG, PNG or WebP image");
  EXPECT_EQ(describe(""), "empty image");
  EXPECT_EQ(Decode(png).rgb, image.rgb);
  EXPECT_EQ(Decode(webp).rgb, image.rgb);
  EXPECT_LT(MeanDifference(Decode(jpeg), image), 8);
}

TEST(ImageDecode, JpegShrinksByPowersOfTwo) {
  const std::string jpeg = *EncodeJpeg(MakeTestImage(101, 70, 2), 95);
  for (const int shrink : {1, 2, 4, 8}) {
    const Image image = Decode(jpeg, shrink);
    EXPECT_EQ(image.width, (101 + shrink - 1) / shrink);
    EXPECT_EQ(image.height, (70 + shrink - 1) / shrink);
  }
}

// Colour `value` of `max` over white with alpha, as a float reference.
int OverWhite(double value, double alpha) {
  return static_cast<int>(std::lround(255 * (1 - alpha) + value * alpha));
}

TEST(ImageDecode, PngOfEveryTypeOverWhite) {
  std::mt19937 random(3);
  for (const bool interlaced : {false, true}) {
    for (const int depth : {1, 2, 4, 8, 16}) {
      for (const int type : {0, 2, 3, 4, 6}) {
        if ((type == 3 && depth == 16) || (depth < 8 && type != 0 && type != 3)) continue;
        PngSpec spec{9, 6, type, depth, interlaced};
        const unsigned max = (1u << depth) - 1;
        const size_t channels = type == 2 ? 3 : type == 4 ? 2 : type == 6 ? 4 : 1;
        for (size_t i = 0; i < 54 * channels; ++i)
          spec.samples.push_back(static_cast<uint16_t>(random() & max));
        if (type == 3) {
          for (unsigned i = 0; i < 3 * (max + 1); ++i)
            spec.palette.push_back(static_cast<uint8_t>(random()));
          for (unsigned i = 0; i <= max / 2; ++i)
            spec.transparent.push_back(static_cast<uint8_t>(random()));
        }
        // The colour of the first pixel is transparent.
        if (type == 0) spec.transparent = {spec.samples[0]};
        if (type == 2) spec.transparent = {spec.samples[0], spec.samples[1], spec.samples[2]};
        const Image image = Decode(EncodePng(spec));
        ASSERT_EQ(image.rgb.size(), 9u * 6 * 3);
        for (size_t pixel = 0; pixel < 54; ++pixel) {
          const uint16_t* s = &spec.samples[pixel * channels];
          double alpha = 1;
          for (size_t c = 0; c < 3; ++c) {
            double value = 0;
            if (type == 3) {
              value = spec.palette[3 * s[0] + c];
              alpha = s[0] < spec.transparent.size() ? spec.transparent[s[0]] / 255.0 : 1;
            } else {
              const size_t channel = type == 2 || type == 6 ? c : 0;
              // 16 bits are cut to 8.
              const auto to8 = [&](unsigned v) { return depth == 16 ? v >> 8 : v * 255.0 / max; };
              value = to8(s[channel]);
              if (type == 4 || type == 6) alpha = to8(s[channels - 1]) / 255.0;
              if (type == 0) alpha = s[0] == spec.transparent[0] ? 0 : 1;
              if (type == 2) alpha = std::equal(s, s + 3, spec.transparent.begin()) ? 0 : 1;
            }
            EXPECT_NEAR(image.rgb[3 * pixel + c], OverWhite(value, alpha), 1)
                << "type " << type << ", depth " << depth << ", interlaced " << interlaced
                << ", pixel " << pixel;
          }
        }
      }
    }
  }
}

TEST(ImageDecode, WebpOverWhite) {
  const Image image = Decode(EncodeWebp(2, 1, {10, 20, 30, 0, 10, 20, 30, 128}));
  EXPECT_EQ(image.rgb[0], 255);
  EXPECT_NEAR(image.rgb[3], OverWhite(10, 128 / 255.0), 1);
}

TEST(ImageDecode, BombsAreRefusedBeforeAnythingIsAllocated) {
  // A PNG header that promises 30000 x 30000; nothing else of it is read.
  std::string png = EncodePng(MakeTestImage(4, 4, 0));
  png.replace(16, 8, std::string("\0\0\x75\x30\0\0\x75\x30", 8));
  const Status too_large = ReadImageInfo(png).status();
  EXPECT_EQ(too_large.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(too_large.message().find("30000x30000"), std::string::npos) << too_large;
  png.replace(16, 8, std::string("\0\0\x30\0\0\0\x30\0", 8));  // 12288 squared: the sides are fine
  EXPECT_FALSE(ReadImageInfo(png).ok());
  std::string jpeg = *EncodeJpeg(MakeTestImage(8, 8, 0), 90);
  const size_t frame = jpeg.find("\xFF\xC0");
  jpeg.replace(frame + 5, 4, "\x75\x30\x75\x30");
  EXPECT_FALSE(ReadImageInfo(jpeg).ok());
  Image image;
  EXPECT_FALSE(ImageDecoder().Decode(jpeg, 1, &image).ok());
  EXPECT_EQ(image.rgb.capacity(), 0u);
}

TEST(ImageDecode, ReadsPngTexts) {
  PngSpec spec{1, 1, 0, 8};
  spec.samples = {7};
  spec.texts = {{"Title", "A caf\xE9"}, {"zDescription", "compressed"}, {"iAuthor", "Zoë"}};
  const auto texts = ReadPngTexts(EncodePng(spec));
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 3u);
  EXPECT_EQ((*texts)[0], (std::pair<std::string, std::string>("Title", "A caf\xE9")));
  EXPECT_EQ((*texts)[1], (std::pair<std::string, std::string>("Description", "compressed")));
  EXPECT_EQ((*texts)[2], (std::pair<std::string, std::string>("Author", "Zoë")));
  EXPECT_TRUE(ReadPngTexts(EncodePng(MakeTestImage(2, 2, 0)))->empty());
}

// Every cut and many flips: a Status, never a crash (ASan looks on in the debug preset).
TEST(ImageDecode, SurvivesBrokenBytes) {
  const Image image = MakeTestImage(33, 21, 4);
  std::vector<uint8_t> rgba(33 * 21 * 4, 200);
  PngSpec palette{33, 21, 3, 2};
  for (int i = 0; i < 33 * 21; ++i) palette.samples.push_back(static_cast<uint16_t>(i % 4));
  for (int i = 0; i < 12; ++i) palette.palette.push_back(static_cast<uint8_t>(20 * i));
  palette.texts = {{"zTitle", "text"}};
  const std::vector<std::string> originals = {*EncodeJpeg(image, 80), EncodePng(image),
                                              EncodePng(palette), EncodeWebp(33, 21, rgba)};
  ImageDecoder decoder;
  Image out;
  std::mt19937 random(9);
  for (const std::string& original : originals) {
    for (size_t size = 0; size < original.size(); size += 1 + original.size() / 200) {
      const Status status = decoder.Decode(original.substr(0, size), 1, &out);
      // The last bytes of a file may be missing without harm to the pixels.
      if (size + 32 < original.size()) {
        EXPECT_FALSE(status.ok()) << ImageFormatName(SniffImageFormat(original)) << " " << size;
      }
    }
    for (int i = 0; i < FuzzRounds(200); ++i) {
      std::string bytes = original;
      for (unsigned flips = random() % 3 + 1; flips > 0; --flips)
        bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
      const Status status = decoder.Decode(bytes, 1 << random() % 4, &out);
      if (status.ok()) {
        EXPECT_EQ(out.rgb.size(),
                  3u * static_cast<size_t>(out.width) * static_cast<size_t>(out.height));
      }
      (void)ReadPngTexts(bytes).ok();
    }
    // The decoder is fine after all that.
    EXPECT_TRUE(decoder.Decode(original, 1, &out).ok());
  }
}

// --- resize -----------------------------------------------------------------------------------------------------------

Image Pattern(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<uint8_t>((x * 7 + y * 13 + c * 50 + x * y) % 256));
    }
  }
  return image;
}

uint64_t HashOf(const std::vector<uint8_t>& bytes) {
  return Fnv1a64({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// Planes as interleaved RGB, hashed.
uint64_t HashOfPlanes(const std::vector<uint8_t>& planes) {
  std::vector<uint8_t> rgb;
  const size_t plane = planes.size() / 3;
  for (size_t i = 0; i < plane; ++i)
    rgb.insert(rgb.end(), {planes[i], planes[plane + i], planes[2 * plane + i]});
  return HashOf(rgb);
}

// The hashes are those of Pillow 13's results on the same pictures.
TEST(Resize, EqualsPillow) {
  const auto resized = [](int width, int height, int new_width, int new_height,
                          ResizeFilter filter) {
    return HashOf(ResizeImage(Pattern(width, height), new_width, new_height, filter).rgb);
  };
  EXPECT_EQ(resized(40, 30, 16, 16, ResizeFilter::kBicubic), 0xa6748dcb07a0e700u);
  EXPECT_EQ(resized(16, 20, 33, 41, ResizeFilter::kBicubic), 0x4e7b204b44f0bde0u);
  EXPECT_EQ(resized(100, 7, 10, 7, ResizeFilter::kBicubic), 0xd40804ff0299a424u);
  EXPECT_EQ(resized(300, 200, 64, 64, ResizeFilter::kBicubic), 0xc7d1eff88174c136u);
  EXPECT_EQ(resized(3, 3, 1, 1, ResizeFilter::kBicubic), 0x39867c18a2d3dbc4u);
  EXPECT_EQ(resized(40, 30, 16, 16, ResizeFilter::kBox), 0x1693028fa7fcaa05u);
  EXPECT_EQ(resized(16, 20, 33, 41, ResizeFilter::kBox), 0xc7d075e979de54bu);
  EXPECT_EQ(resized(300, 200, 64, 64, ResizeFilter::kBox), 0x8e0cd88808979405u);
}

TEST(Resize, ACropEqualsPillowsCropThenResize) {
  const ResizeAxis x{13, 93, 13, 93, 64, 0, 64};
  const ResizeAxis y{7, 77, 7, 77, 64, 0, 64};
  std::vector<uint8_t> planes(3 * 64 * 64);
  Resizer().ToPlanes(Pattern(120, 90), x, y, ResizeFilter::kBicubic, false, planes.data());
  EXPECT_EQ(HashOfPlanes(planes), 0xe2e10a32aa4fce46u);
}

TEST(Resize, EvaluationEqualsTorchvision) {
  std::vector<uint8_t> planes(3 * 32 * 32);
  ASSERT_TRUE(ImageCooker().CookForEval(EncodePng(Pattern(77, 50)), 32, planes.data()).ok());
  EXPECT_EQ(HashOfPlanes(planes), 0xb55de82346f54fe4u);
}

TEST(Resize, KeepsAConstantAndFlips) {
  Image gray{50, 40, std::vector<uint8_t>(50 * 40 * 3, 77)};
  for (const uint8_t value : ResizeImage(gray, 13, 64, ResizeFilter::kBicubic).rgb)
    EXPECT_EQ(value, 77);
  const Image pattern = Pattern(30, 30);
  const ResizeAxis axis{2, 27, 2, 27, 8, 0, 8};
  std::vector<uint8_t> straight(3 * 64);
  std::vector<uint8_t> flipped(3 * 64);
  Resizer resizer;
  resizer.ToPlanes(pattern, axis, axis, ResizeFilter::kBicubic, false, straight.data());
  resizer.ToPlanes(pattern, axis, axis, ResizeFilter::kBicubic, true, flipped.data());
  for (size_t row = 0; row < 24; ++row) {
    for (size_t x = 0; x < 8; ++x) EXPECT_EQ(straight[row * 8 + x], flipped[row * 8 + 7 - x]);
  }
}

// Each set of kernels, at each precision, on shapes that end in the middle of a tile, a quad, a step of the columns.
TEST(Resize, AllKernelsGiveTheSameBytes) {
  const std::vector<ResizeKernels> all = AllResizeKernels();
  for (const ResizePrecision precision : {ResizePrecision::kExact, ResizePrecision::kNarrow}) {
    for (const auto& [width, height, out_width, out_height] : {std::array{1, 1, 3, 2},
                                                               {2, 5, 1, 1},
                                                               {37, 70, 16, 33},
                                                               {300, 91, 67, 30},
                                                               {50, 40, 131, 80},
                                                               {640, 480, 224, 224}}) {
      std::vector<uint8_t> plane(static_cast<size_t>(width * height));
      for (size_t i = 0; i < plane.size();
           ++i)  // rather black or white: sums leave the bytes' range
        plane[i] = static_cast<uint8_t>(i * 2654435761U >> 24) & 64 ? 255 : i % 7;
      const ResizeAxis x{0.3, width - 0.2, 0, width, out_width, 0, out_width};
      const ResizeAxis y{0, height - 0.5, 0, height, out_height, 0, out_height};
      for (const bool flip : {false, true}) {
        std::vector<uint8_t> expected;
        for (const ResizeKernels& kernels : all) {
          Resizer resizer(kernels);
          resizer.Plan(x, y, ResizeFilter::kBicubic, precision);
          std::vector<uint8_t> out(static_cast<size_t>(out_width * out_height));
          resizer.Resize({plane.data(), static_cast<size_t>(width), 0, 0}, flip, out.data());
          if (expected.empty()) expected = out;
          EXPECT_EQ(out, expected) << width << "x" << height << " kernels " << &kernels - &all[0];
        }
      }
    }
  }
}

// --- augmentation ---------------------------------------------------------------------------------------------------

AugmentRecipe Recipe(double scale_min) {
  AugmentRecipe recipe;
  recipe.set_scale_min(scale_min);
  return recipe;
}

TEST(Augment, CropsHaveTheDrawnAreaAndAspect) {
  const AugmentRecipe recipe = Recipe(0.2);
  const KeyedRandom random(1, "augment:train", 0);
  double area_sum = 0;
  double log_aspect_sum = 0;
  const int n = 4000;
  for (uint64_t id = 0; id < n; ++id) {
    const Augmentation a = DrawAugmentation(recipe, random, id, 300, 300);
    EXPECT_GE(a.left, 0);
    EXPECT_GE(a.top, 0);
    EXPECT_LE(a.left + a.width, 300);
    EXPECT_LE(a.top + a.height, 300);
    const double area = a.width * a.height / 90000.0;
    const double aspect = static_cast<double>(a.width) / a.height;
    EXPECT_GT(area, 0.19);
    EXPECT_GT(aspect, 0.73);
    EXPECT_LT(aspect, 1.36);
    EXPECT_FALSE(a.flip);
    area_sum += area;
    log_aspect_sum += std::log(aspect);
  }
  // Uniform in [0.2, 1], but a try of area s fits only if its aspect is in [s, 1 / s]: the mean is 0.538.
  EXPECT_NEAR(area_sum / n, 0.538, 0.015);
  EXPECT_NEAR(log_aspect_sum / n, 0, 0.01);
}

TEST(Augment, FallsBackToACentredBox) {
  // Nothing with an aspect of at most 4/3 and 90 % of the area fits into 400 x 20.
  const Augmentation wide = DrawAugmentation(Recipe(0.9), KeyedRandom(1, "a", 0), 5, 400, 20);
  EXPECT_EQ(wide.height, 20);
  EXPECT_EQ(wide.width, 27);
  EXPECT_EQ(wide.left, (400 - 27) / 2);
  const Augmentation tall = DrawAugmentation(Recipe(0.9), KeyedRandom(1, "a", 0), 5, 20, 400);
  EXPECT_EQ(tall.width, 20);
  EXPECT_EQ(tall.height, 27);
}

TEST(Augment, DrawsDependOnSeedEpochAndSampleOnly) {
  const AugmentRecipe recipe = Recipe(0.3);
  const auto box = [&](uint64_t seed, uint64_t epoch, uint64_t id) {
    const Augmentation a =
        DrawAugmentation(recipe, KeyedRandom(seed, "augment:train", epoch), id, 500, 400);
    return std::vector<int>{a.left, a.top, a.width, a.height};
  };
  EXPECT_EQ(box(1, 2, 3), box(1, 2, 3));
  EXPECT_NE(box(1, 2, 3), box(2, 2, 3));
  EXPECT_NE(box(1, 2, 3), box(1, 3, 3));
  EXPECT_NE(box(1, 2, 3), box(1, 2, 4));
  EXPECT_NE(box(1, 2, 3), box(2, 1, 3));
}

TEST(Augment, FlipsWithItsProbability) {
  AugmentRecipe recipe = Recipe(0.9);
  recipe.set_flip_probability(0.3);
  const KeyedRandom random(1, "augment:train", 0);
  int flips = 0;
  for (uint64_t id = 0; id < 4000; ++id) flips += DrawAugmentation(recipe, random, id, 64, 64).flip;
  EXPECT_NEAR(flips / 4000.0, 0.3, 0.03);
}

TEST(Augment, JittersColours) {
  std::vector<uint8_t> planes = {100, 200, 50,
                                 60,  10,  20};  // two pixels: (100, 50, 10), (200, 60, 20)
  Augmentation a;
  a.brightness = 1.5;
  JitterColors(a, {planes.data(), 2, 1});
  EXPECT_EQ(planes, (std::vector<uint8_t>{150, 255, 75, 90, 15, 30}));
  a = {};
  a.saturation = 0;
  JitterColors(a, {planes.data(), 2, 1});
  EXPECT_EQ(planes[0], planes[2]);
  EXPECT_EQ(planes[1], planes[5]);
  a = {};
  a.contrast = 0;
  JitterColors(a, {planes.data(), 2, 1});
  for (const uint8_t value : planes) EXPECT_EQ(value, planes[0]);
}

TEST(Augment, RefusesBadRecipes) {
  AugmentRecipe recipe;
  EXPECT_TRUE(ValidateAugment(recipe).ok());
  recipe.set_ratio_max(0.5);
  EXPECT_NE(ValidateAugment(recipe).message().find("data.augment.ratio_max"), std::string::npos);
}

// A large JPEG is decoded at a fraction of its size, which must look the same.
TEST(ImageCooker, ShrunkenJpegsLookLikeWholeOnes) {
  const Image image = MakeTestImage(600, 500, 1);
  const KeyedRandom random(4, "augment:train", 0);
  for (const bool eval : {false, true}) {
    std::vector<uint8_t> from_jpeg(3 * 64 * 64);
    std::vector<uint8_t> from_png(3 * 64 * 64);
    ImageCooker cooker;
    const std::string jpeg = *EncodeJpeg(image, 98);
    const std::string png = EncodePng(image);
    for (auto [bytes, out] : {std::pair{&jpeg, &from_jpeg}, std::pair{&png, &from_png}}) {
      const Status status =
          eval ? cooker.CookForEval(*bytes, 64, out->data())
               : cooker.CookForTraining(*bytes, Recipe(0.9), random, 7, 64, out->data());
      ASSERT_TRUE(status.ok()) << status;
    }
    double sum = 0;
    for (size_t i = 0; i < from_png.size(); ++i) sum += std::abs(from_png[i] - from_jpeg[i]);
    EXPECT_LT(sum / static_cast<double>(from_png.size()), 3) << eval;
  }
}

TEST(ImageCooker, AnyShapeGivesTheSameSize) {
  ImageCooker cooker;
  std::vector<uint8_t> planes(3 * 16 * 16);
  const KeyedRandom random(4, "augment:train", 0);
  for (const auto& [width, height] :
       {std::pair{1, 1}, {1, 300}, {300, 1}, {16, 16}, {15, 17}, {2000, 3}}) {
    for (const std::string& bytes : {EncodePng(MakeTestImage(width, height, 0)),
                                     *EncodeJpeg(MakeTestImage(width, height, 0), 90)}) {
      EXPECT_TRUE(cooker.CookForEval(bytes, 16, planes.data()).ok()) << width << "x" << height;
      EXPECT_TRUE(cooker.CookForTraining(bytes, Recipe(0.1), random, 1, 16, planes.data()).ok())
          << width << "x" << height;
    }
  }
}

}  // namespace
}  // namespace weft
