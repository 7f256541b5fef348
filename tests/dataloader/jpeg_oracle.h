// JPEGs of every kind, and what libjpeg-turbo makes of them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dataloader/image_decode.h"

namespace weft {

struct JpegSpec {
  int quality = 90;
  int h = 2;  // luma's sampling factors; chroma has 1 x 1
  int v = 2;
  bool gray = false;
  bool optimize = false;
  bool progressive = false;
  int restart_interval = 0;  // MCUs
};
std::string EncodeJpegAs(const Image& image, const JpegSpec& spec);

// Photograph-like: gradients, edges, and noise of the strength given.
Image MakeBusyImage(int width, int height, unsigned seed, int noise);

// The quantised coefficients of each component, blocks row by row, 64 each. Empty: libjpeg-turbo fails or warns.
std::vector<std::vector<int16_t>> OracleCoefficients(std::string_view bytes);

// The same of Weft's own decoder; empty if it does not take the file.
std::vector<std::vector<int16_t>> OwnCoefficients(std::string_view bytes);

// Entropy decoding alone; false if libjpeg-turbo fails or warns.
bool ReadCoefficients(std::string_view bytes);

// RGB at 1 / shrink; false if libjpeg-turbo fails or warns.
bool OraclePixels(std::string_view bytes, int shrink, Image* image);

}  // namespace weft
