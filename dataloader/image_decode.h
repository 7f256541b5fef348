// JPEG, PNG and WebP bytes to 8-bit RGB. The format is told by the first bytes, never by a name. Sizes are checked before
// anything is allocated for pixels.
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

// A box of a picture as three planes of box.width() * box.height() bytes, red, green and blue.
struct PlanarImage {
  jpeg::Box box;
  std::vector<uint8_t> samples;

  uint8_t* plane(size_t channel) { return samples.data() + channel * pixels(); }
  size_t pixels() const {
    return static_cast<size_t>(box.width()) * static_cast<size_t>(box.height());
  }
};

// What is done about files that leave a choice.
struct DecodePolicy {
  // Transparent pixels keep the colour under them; else they are composited over white.
  bool drop_alpha = false;
  // Turned upright, where the file says how (dataloader/exif.h).
  bool apply_exif = false;
  // A JPEG that ends early is decoded if this share of its rows is there; libjpeg-turbo fills the rest, mostly with grey.
  double min_rows = 1;
};

// Format and size from the header, as the pixels are stored; the size is within the limits.
StatusOr<ImageInfo> ReadImageInfo(std::string_view bytes);

class ImageDecoder {
 public:
  explicit ImageDecoder(const DecodePolicy& policy = {});
  ~ImageDecoder();
  ImageDecoder(const ImageDecoder&) = delete;
  ImageDecoder& operator=(const ImageDecoder&) = delete;

  // As ReadImageInfo, with the sides of the picture that Decode gives: exchanged where it turns it.
  StatusOr<ImageInfo> Info(std::string_view bytes) const;

  // Decodes into `image`, reusing its memory. A JPEG is decoded at 1 / shrink of its size (1, 2, 4 or 8; sides are rounded
  // up), which skips work; the other formats ignore it. A JPEG that carries bad codes is an error, not a half-grey picture; so
  // is one that ends early, but for min_rows.
  Status Decode(std::string_view bytes, int shrink, Image* image);

  // The same, and only the pixels of a box of the (shrunken) picture. Of the common JPEGs nothing behind the box is decoded,
  // so that wrong codes there are no error.
  Status DecodeBox(std::string_view bytes, int shrink, const jpeg::Box& box, PlanarImage* image);

  // The JPEG as its own decoder sees it, or null if that does not take the file or would have to turn it. Calling Decode of it is next.
  jpeg::BaselineDecoder* OpenBaseline(std::string_view bytes);

 private:
  struct Jpeg;
  int Orientation(std::string_view bytes) const;
  Status DecodeStored(std::string_view bytes, int shrink, Image* image);
  void TakeRgba(int width, int height, Image* image) const;
  // True: done, with the bytes that libjpeg-turbo would give.
  bool DecodeBaseline(std::string_view bytes, int shrink, const jpeg::Box& box, PlanarImage* image);
  Status DecodeJpeg(std::string_view bytes, const ImageInfo& info, int shrink, Image* image);
  Status DecodePng(std::string_view bytes, Image* image);
  Status DecodeWebp(std::string_view bytes, const ImageInfo& info, Image* image);

  DecodePolicy policy_;
  jpeg::BaselineDecoder baseline_;
  jpeg::ColourConverter colours_;
  std::unique_ptr<Jpeg> jpeg_;
  std::vector<uint8_t> rgba_;
  PlanarImage planar_;
  Image whole_;
  Image turned_;
};

// The texts in a PNG (tEXt, zTXt, iTXt): keyword and text as stored, in the file's order.
StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPngTexts(std::string_view bytes);

// For packing: baseline 4:2:0 JPEG with optimised Huffman tables.
StatusOr<std::string> EncodeJpeg(const Image& image, int quality);

}  // namespace weft
