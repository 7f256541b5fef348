// What the first bytes of a picture say: its format, never told by a name, and its size, which is checked before anything is
// allocated for pixels.
//
// Errors: Corruption (broken bytes, an unknown format), InvalidArgument (too large, animated). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string_view>

#include "cluster/base/status.h"

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

// InvalidArgument for a picture beyond the limits, Corruption for one without pixels.
Status CheckImageSize(ImageFormat format, int64_t width, int64_t height);

// Format and size from the header, as the pixels are stored; the size is within the limits.
StatusOr<ImageInfo> ReadImageInfo(std::string_view bytes);

}  // namespace weft
