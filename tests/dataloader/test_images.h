// Pictures and shards that the data loader's tests make for themselves.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "dataloader/image_decode.h"

namespace weft {

// Smooth colours that depend on `kind`: survives JPEG well.
Image MakeTestImage(int width, int height, int kind);

// PNG of any colour type and depth. `samples`: row by row, one value a channel (or palette index), unpacked.
struct PngSpec {
  int width = 0;
  int height = 0;
  int color_type = 2;  // 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA
  int bit_depth = 8;
  bool interlaced = false;
  std::vector<uint16_t> samples;
  std::vector<uint8_t> palette;       // 3 bytes an entry
  std::vector<uint16_t> transparent;  // palette: alphas; gray, RGB: the transparent colour
  // tEXt; "z" or "i" before the keyword: zTXt or iTXt.
  std::vector<std::pair<std::string, std::string>> texts;
};
std::string EncodePng(const PngSpec& spec);
std::string EncodePng(const Image& image);
// WebP without loss; rgba has 4 bytes a pixel.
std::string EncodeWebp(int width, int height, const std::vector<uint8_t>& rgba);

using TestSample = std::pair<std::string, std::map<std::string, std::string>>;
// Writes a shard with TarWriter; fails the test if it cannot.
void WriteShard(const std::string& path, const std::vector<TestSample>& samples);
void WriteBytes(const std::string& path, const std::string& bytes);
std::string ReadBytes(const std::string& path);

// Rounds of a test with mutated bytes: `usual`, times WEFT_FUZZ where that is set.
int FuzzRounds(int usual);

// `count` samples of small JPEGs with captions, keys "s000000"...
std::vector<TestSample> MakeSamples(int first, int count, int side = 40);

}  // namespace weft
