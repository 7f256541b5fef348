// libjpeg-turbo: JPEGs of every kind to RGB, and RGB to JPEG.
//
// Errors: Corruption (broken bytes), InvalidArgument (too large), with the library's own words.
// Thread rule: a TurboJpeg belongs to one thread at a time; EncodeJpeg is a pure function.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/image.h"

namespace weft {

class TurboJpeg {
 public:
  // min_rows: the share of rows that a file which ends early must have (DecodePolicy).
  explicit TurboJpeg(double min_rows);
  ~TurboJpeg();
  TurboJpeg(const TurboJpeg&) = delete;
  TurboJpeg& operator=(const TurboJpeg&) = delete;

  // The whole picture at 1 / shrink of its size: 1, 2, 4 or 8. CMYK becomes RGB as Pillow makes it.
  Status Decode(std::string_view bytes, int shrink, Image* image);

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  std::vector<uint8_t> cmyk_;
};

// For packing: baseline 4:2:0 JPEG with optimised Huffman tables.
StatusOr<std::string> EncodeJpeg(const Image& image, int quality);

}  // namespace weft
