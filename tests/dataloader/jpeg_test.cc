#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "dataloader/jpeg/baseline_decoder.h"
#include "dataloader/jpeg/colour.h"
#include "dataloader/jpeg/idct.h"
#include "tests/dataloader/jpeg_oracle.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

using jpeg::BaselineDecoder;
using jpeg::Box;

// The box of the picture as interleaved RGB; empty if the own decoder does not take the file.
std::vector<uint8_t> Pixels(BaselineDecoder* decoder, int shrink, const Box& box) {
  if (!decoder->Decode(shrink, box)) return {};
  const auto pixels = static_cast<size_t>(box.width()) * static_cast<size_t>(box.height());
  std::vector<uint8_t> planes(3 * pixels);
  jpeg::ColourConverter().ToRgb(
      *decoder, box, {planes.data(), planes.data() + pixels, planes.data() + 2 * pixels});
  std::vector<uint8_t> rgb(3 * pixels);
  for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = planes[i % 3 * pixels + i / 3];
  return rgb;
}

std::vector<uint8_t> Cut(const Image& image, const Box& box) {
  std::vector<uint8_t> out;
  for (int y = box.top; y < box.bottom; ++y) {
    const auto row = image.rgb.begin() + 3 * (static_cast<ptrdiff_t>(y) * image.width);
    out.insert(out.end(), row + 3 * box.left, row + 3 * box.right);
  }
  return out;
}

Box RandomBox(int width, int height, std::mt19937* random) {
  const auto below = [&](int n) {
    return static_cast<int>((*random)() % static_cast<unsigned>(n));
  };
  Box box{below(width), below(height), 0, 0};
  box.right = box.left + 1 + below(width - box.left);
  box.bottom = box.top + 1 + below(height - box.top);
  return box;
}

void ExpectEqualsOracle(const std::string& bytes, std::mt19937* random) {
  ASSERT_EQ(OwnCoefficients(bytes), OracleCoefficients(bytes));
  BaselineDecoder decoder;
  ASSERT_TRUE(decoder.Open(bytes));
  for (const int shrink : {1, 2, 4, 8}) {
    Image image;
    ASSERT_TRUE(OraclePixels(bytes, shrink, &image));
    const Box whole{0, 0, image.width, image.height};
    ASSERT_EQ(Pixels(&decoder, shrink, whole), image.rgb) << "shrink " << shrink;
    const Box box = RandomBox(image.width, image.height, random);
    ASSERT_EQ(Pixels(&decoder, shrink, box), Cut(image, box))
        << "shrink " << shrink << ", box " << box.left << "," << box.top << " to " << box.right
        << "," << box.bottom;
  }
}

struct Sampling {
  int h;
  int v;
  bool gray;
};
constexpr Sampling kSamplings[] = {{2, 2, false}, {2, 1, false}, {1, 1, false}, {1, 1, true}};

TEST(BaselineJpeg, EqualsLibjpegTurbo) {
  std::mt19937 random(1);
  for (const auto& [width, height] : {std::pair(1, 1),
                                      {2, 3},
                                      {7, 8},
                                      {8, 9},
                                      {16, 16},
                                      {17, 33},
                                      {33, 17},
                                      {100, 5},
                                      {5, 100},
                                      {131, 97}}) {
    for (const Sampling& sampling : kSamplings) {
      for (const int quality : {3, 40, 75, 90, 97, 100}) {
        const Image image = MakeBusyImage(width, height, random(), quality % 3 * 25);
        JpegSpec spec{quality, sampling.h, sampling.v, sampling.gray};
        spec.optimize = random() % 2;
        spec.restart_interval = static_cast<int>(random() % 3) * static_cast<int>(random() % 9);
        SCOPED_TRACE(testing::Message()
                     << width << "x" << height << ", sampling " << sampling.h << sampling.v
                     << (sampling.gray ? " gray" : "") << ", quality " << quality << ", restarts "
                     << spec.restart_interval << ", optimised " << spec.optimize);
        ExpectEqualsOracle(EncodeJpegAs(image, spec), &random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(BaselineJpeg, LeavesOtherKindsToLibjpegTurbo) {
  const Image image = MakeBusyImage(50, 40, 1, 10);
  BaselineDecoder decoder;
  EXPECT_FALSE(decoder.Open(EncodeJpegAs(image, {.progressive = true})));
  EXPECT_FALSE(decoder.Open(EncodeJpegAs(image, {.h = 4, .v = 1})));
  EXPECT_FALSE(decoder.Open(EncodeJpegAs(image, {.h = 1, .v = 2})));
  for (const JpegSpec& spec :
       {JpegSpec{.progressive = true}, JpegSpec{.h = 4, .v = 1}, JpegSpec{.h = 1, .v = 2}}) {
    Image expected;
    Image got;
    const std::string bytes = EncodeJpegAs(image, spec);
    ASSERT_TRUE(OraclePixels(bytes, 1, &expected));
    ASSERT_TRUE(ImageDecoder().Decode(bytes, 1, &got).ok());
    EXPECT_EQ(got.rgb, expected.rgb);
  }
}

// Bytes changed, cut out or put in: what the own decoder takes is what libjpeg-turbo finds.
TEST(BaselineJpeg, NeverTakesWhatLibjpegTurboRefuses) {
  std::mt19937 random(7);
  int taken = 0;
  int refused = 0;
  const int rounds = FuzzRounds(3000);
  for (int round = 0; round < rounds; ++round) {
    const Sampling& sampling = kSamplings[random() % 4];
    JpegSpec spec{static_cast<int>(20 + random() % 80), sampling.h, sampling.v, sampling.gray};
    spec.restart_interval = static_cast<int>(random() % 3);
    std::string bytes =
        EncodeJpegAs(MakeBusyImage(1 + static_cast<int>(random() % 60),
                                   1 + static_cast<int>(random() % 60), random(), 20),
                     spec);
    // Mostly in the scan: the headers of such small files would take nearly all.
    const size_t scan = bytes.find("\xFF\xDA");
    for (size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const size_t begin = random() % 8 == 0 ? 2 : scan;
      const size_t at = begin + random() % (bytes.size() - begin);
      switch (random() % 4) {
        case 0:
          bytes.erase(at, 1 + random() % 4);
          break;
        case 1:
          bytes.insert(at, 1, static_cast<char>(random()));
          break;
        default:
          bytes[at] =
              static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ (1u << random() % 8));
      }
      if (bytes.size() <= begin + 1) break;
    }
    const auto own = OwnCoefficients(bytes);
    if (own.empty()) {
      ++refused;
      continue;
    }
    ++taken;
    ASSERT_EQ(own, OracleCoefficients(bytes)) << "round " << round;
    BaselineDecoder decoder;
    ASSERT_TRUE(decoder.Open(bytes));
    const jpeg::Header& header = decoder.header();
    Pixels(&decoder, 1, RandomBox(header.width, header.height, &random));
  }
  EXPECT_GT(taken, rounds / 20);
  EXPECT_GT(refused, rounds / 20);
}

TEST(BaselineJpeg, TruncatedFilesAreRefusedWhateverTheBox) {
  const std::string bytes = EncodeJpegAs(MakeBusyImage(200, 200, 3, 20), {});
  BaselineDecoder decoder;
  for (const size_t left : {bytes.size() - 2, bytes.size() - 100, bytes.size() / 2}) {
    ASSERT_TRUE(decoder.Open(std::string_view(bytes).substr(0, left)));
    EXPECT_FALSE(decoder.Decode(1, Box{0, 0, 8, 8})) << left;
  }
}

TEST(Idct, AllPathsAreEqual) {
  std::mt19937 random(5);
  for (const int shrink : {1, 2, 4, 8}) {
    const auto idcts = jpeg::AllIdcts(shrink);
    for (int round = 0; round < 2000; ++round) {
      std::array<uint16_t, 64> steps;
      for (uint16_t& step : steps) step = static_cast<uint16_t>(1 + random() % 255);
      std::array<int16_t, 256> in{};
      const int extent = 1 + static_cast<int>(random() % 64);
      for (int block = 0; block < 4; ++block) {
        for (int k = 0; k < extent; ++k) {
          // Any value: beyond what an encoder writes the paths agree too.
          const int size = static_cast<int>(random() % 12);
          const int value = static_cast<int>(random() % (2u << size)) - (1 << size);
          const int natural = jpeg::kZigzag[static_cast<size_t>(k)];
          in[static_cast<size_t>(natural / 8 * 32 + block * 8 + natural % 8)] =
              static_cast<int16_t>(value);
        }
      }
      std::vector<std::vector<uint8_t>> results;
      for (const auto idct : idcts) {
        auto& out = results.emplace_back(8 * 40, uint8_t{99});
        idct(in.data(), jpeg::MakeGroupQuant(steps), extent, out.data(), 40);
      }
      for (size_t i = 1; i < results.size(); ++i)
        ASSERT_EQ(results[i], results[0]) << "path " << i << ", shrink " << shrink;
    }
  }
}

TEST(Colour, EqualsTheDefinitionForEveryTriple) {
  std::vector<uint8_t> y(256);
  for (size_t i = 0; i < 256; ++i) y[i] = static_cast<uint8_t>(i);
  std::vector<uint8_t> rgb[3];
  for (auto& plane : rgb) plane.resize(256);
  const auto clamp = [](int x) { return std::clamp(x, 0, 255); };
  for (int cb = 0; cb < 256; ++cb) {
    for (int cr = 0; cr < 256; ++cr) {
      const std::vector<uint8_t> b(256, static_cast<uint8_t>(cb));
      const std::vector<uint8_t> r(256, static_cast<uint8_t>(cr));
      jpeg::YccToRgb(y.data(), b.data(), r.data(), 256, rgb[0].data(), rgb[1].data(),
                     rgb[2].data());
      for (int i = 0; i < 256; i += 5) {
        const auto at = static_cast<size_t>(i);
        ASSERT_EQ(rgb[0][at], clamp(i + ((91881 * (cr - 128) + 32768) >> 16)));
        ASSERT_EQ(rgb[1][at],
                  clamp(i + ((-22554 * (cb - 128) - 46802 * (cr - 128) + 32768) >> 16)));
        ASSERT_EQ(rgb[2][at], clamp(i + ((116130 * (cb - 128) + 32768) >> 16)));
      }
    }
  }
}

}  // namespace
}  // namespace weft
