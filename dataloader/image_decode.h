// JPEG, PNG and WebP bytes to 8-bit RGB. The format is told by the first bytes, never by a name. Sizes are checked before
// anything is allocated for pixels. Transparency is composited over white.
//
// Errors: Corruption (broken bytes, an unknown format), InvalidArgument (too large, animated). Broken bytes never crash and
// what they cost is bounded by the size limits. Thread rule: a decoder belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/jpeg/baseline_decoder.h"
#include "dataloader/jpeg/colour.h"

namespace weft {

// The bomb guard.
constexpr int kMaxImageSide = 16384;
constexpr int64_t kMaxImagePixels = int64_t{64} << 20;

enum class ImageFormat { kUnknown, kJpeg, kPng, kWebp };
const char* ImageFormatName(ImageFormat format);
ImageFormat SniffImageFormat(std::string_view bytes);

struct ImageInfo {
  ImageFormat format = ImageFormat::kUnknown;
  int width = 0;
  int height = 0;
};

// Rows top to bottom, pixels of 3 bytes R, G, B without padding.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

// Format and size from the header; the size is within the limits.
StatusOr<ImageInfo> ReadImageInfo(std::string_view bytes);

class ImageDecoder {
 public:
  ImageDecoder();
  ~ImageDecoder();
  ImageDecoder(const ImageDecoder&) = delete;
  ImageDecoder& operator=(const ImageDecoder&) = delete;

  // Decodes into `image`, reusing its memory. A JPEG is decoded at 1 / shrink of its size (1, 2, 4 or 8; sides are rounded
  // up), which skips work; the other formats ignore it. A JPEG that ends early or carries bad codes is an error, not a
  // half-grey picture.
  Status Decode(std::string_view bytes, int shrink, Image* image);

 private:
  struct Jpeg;
  // True: done, with the bytes that libjpeg-turbo would give.
  bool DecodeBaseline(std::string_view bytes, int shrink, Image* image);
  Status DecodeJpeg(std::string_view bytes, int shrink, Image* image);
  Status DecodePng(std::string_view bytes, Image* image);
  Status DecodeWebp(std::string_view bytes, const ImageInfo& info, Image* image);

  jpeg::BaselineDecoder baseline_;
  jpeg::ColourConverter colours_;
  std::unique_ptr<Jpeg> jpeg_;
  std::vector<uint8_t> rgba_;
};

// The texts in a PNG (tEXt, zTXt, iTXt): keyword and text as stored, in the file's order.
StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPngTexts(std::string_view bytes);

// For packing: baseline 4:2:0 JPEG with optimised Huffman tables.
StatusOr<std::string> EncodeJpeg(const Image& image, int quality);

}  // namespace weft
