// JPEG, PNG and WebP bytes to 8-bit RGB: which decoder takes what, and the policies about files that leave a choice.
//
// Errors: Corruption (broken bytes, an unknown format), InvalidArgument (too large, animated). Broken bytes never crash and
// what they cost is bounded by the size limits. Thread rule: a decoder belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/image.h"
#include "dataloader/image_header.h"
#include "dataloader/jpeg/baseline_decoder.h"
#include "dataloader/jpeg/colour.h"
#include "dataloader/jpeg_codec.h"

namespace weft {

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

class ImageDecoder {
 public:
  explicit ImageDecoder(const DecodePolicy& policy = {});

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
  int Orientation(std::string_view bytes) const;
  Status DecodeStored(std::string_view bytes, int shrink, Image* image);
  void TakeRgba(int width, int height, Image* image) const;
  // True: done, with the bytes that libjpeg-turbo would give.
  bool DecodeBaseline(std::string_view bytes, int shrink, const jpeg::Box& box, PlanarImage* image);
  Status DecodeJpeg(std::string_view bytes, const ImageInfo& info, int shrink, Image* image);
  Status DecodeWebp(std::string_view bytes, const ImageInfo& info, Image* image);

  DecodePolicy policy_;
  jpeg::BaselineDecoder baseline_;
  jpeg::ColourConverter colours_;
  TurboJpeg jpeg_;
  std::vector<uint8_t> rgba_;
  PlanarImage planar_;
  Image whole_;
  Image turned_;
};

}  // namespace weft
