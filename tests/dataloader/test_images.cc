#include "tests/dataloader/test_images.h"

#include <gtest/gtest.h>
#include <png.h>
#include <webp/encode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cluster/base/logging.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/tar_writer.h"

namespace weft {

Image MakeTestImage(int width, int height, int kind) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double wave = std::sin(0.11 * x * (1 + c) + 0.07 * y + kind + 2 * c);
        image.rgb.push_back(static_cast<uint8_t>(127.5 + 100 * wave));
      }
    }
  }
  return image;
}

std::string EncodePng(const PngSpec& spec) {
  std::string out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  WEFT_CHECK(setjmp(png_jmpbuf(png)) == 0) << "libpng refused the test image";
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, png_size_t size) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), size);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, static_cast<png_uint_32>(spec.width),
               static_cast<png_uint_32>(spec.height), spec.bit_depth, spec.color_type,
               spec.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> palette;
  for (size_t i = 0; i < spec.palette.size(); i += 3) {
    palette.push_back({spec.palette[i], spec.palette[i + 1], spec.palette[i + 2]});
  }
  if (!palette.empty()) png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  std::vector<png_byte> alphas(spec.transparent.begin(), spec.transparent.end());
  png_color_16 color = {};
  if (!spec.transparent.empty() && spec.color_type == 3) {
    png_set_tRNS(png, info, alphas.data(), static_cast<int>(alphas.size()), nullptr);
  } else if (!spec.transparent.empty()) {
    color.gray = color.red = spec.transparent[0];
    color.green = spec.transparent.size() > 1 ? spec.transparent[1] : 0;
    color.blue = spec.transparent.size() > 2 ? spec.transparent[2] : 0;
    png_set_tRNS(png, info, nullptr, 0, &color);
  }
  for (const auto& [key, value] : spec.texts) {
    png_text text = {};
    std::string name = key;
    text.compression = PNG_TEXT_COMPRESSION_NONE;
    if (key[0] == 'z') text.compression = PNG_TEXT_COMPRESSION_zTXt;
    if (key[0] == 'i') text.compression = PNG_ITXT_COMPRESSION_zTXt;
    if (text.compression != PNG_TEXT_COMPRESSION_NONE) name.erase(0, 1);
    std::string body = value;
    std::string empty;
    text.key = name.data();
    text.text = body.data();
    text.text_length = body.size();
    text.lang = empty.data();
    text.lang_key = empty.data();
    png_set_text(png, info, &text, 1);
  }
  png_write_info(png, info);
  const size_t channels = spec.color_type == 2   ? 3
                          : spec.color_type == 4 ? 2
                          : spec.color_type == 6 ? 4
                                                 : 1;
  const size_t row_samples = static_cast<size_t>(spec.width) * channels;
  std::vector<std::vector<png_byte>> rows;
  std::vector<png_bytep> pointers;
  for (size_t y = 0; y < static_cast<size_t>(spec.height); ++y) {
    const auto depth = static_cast<size_t>(spec.bit_depth);
    std::vector<png_byte> row((row_samples * depth + 7) / 8);
    for (size_t i = 0; i < row_samples; ++i) {
      const unsigned value = spec.samples[y * row_samples + i];
      if (depth == 16) {
        row[2 * i] = static_cast<png_byte>(value >> 8);
        row[2 * i + 1] = static_cast<png_byte>(value);
      } else {
        const size_t bit = i * depth;
        row[bit / 8] = static_cast<png_byte>(row[bit / 8] | value << (8 - depth - bit % 8));
      }
    }
    rows.push_back(std::move(row));
  }
  for (auto& row : rows) pointers.push_back(row.data());
  png_write_image(png, pointers.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

std::string EncodePng(const Image& image) {
  PngSpec spec{image.width, image.height};
  spec.samples.assign(image.rgb.begin(), image.rgb.end());
  return EncodePng(spec);
}

std::string EncodeWebp(int width, int height, const std::vector<uint8_t>& rgba) {
  uint8_t* data = nullptr;
  const size_t size = WebPEncodeLosslessRGBA(rgba.data(), width, height, 4 * width, &data);
  WEFT_CHECK(size > 0);
  std::string out(reinterpret_cast<char*>(data), size);
  WebPFree(data);
  return out;
}

void WriteShard(const std::string& path, const std::vector<TestSample>& samples) {
  auto writer = TarWriter::Create(PosixFileSystem(), path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& [key, members] : samples) ASSERT_TRUE((*writer)->AddSample(key, members).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string ReadBytes(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

int FuzzRounds(int usual) {
  const char* factor = std::getenv("WEFT_FUZZ");
  return factor == nullptr ? usual : usual * std::max(1, std::atoi(factor));
}

std::vector<TestSample> MakeSamples(int first, int count, int side) {
  std::vector<TestSample> samples;
  for (int i = first; i < first + count; ++i) {
    char key[16];
    std::snprintf(key, sizeof key, "s%06d", i);
    auto jpeg = EncodeJpeg(MakeTestImage(side, side + i % 7, i), 90);
    samples.push_back({key, {{"jpg", *jpeg}, {"txt", "picture number " + std::to_string(i)}}});
  }
  return samples;
}

}  // namespace weft
