#include "dataloader/image_header.h"

#include <webp/decode.h>

#include <cstring>
#include <string>

namespace weft {

Status CheckImageSize(ImageFormat format, int64_t width, int64_t height) {
  if (width < 1 || height < 1)
    return Corruption(std::string(ImageFormatName(format)) + " image without pixels");
  if (width <= kMaxImageSide && height <= kMaxImageSide && width * height <= kMaxImagePixels)
    return OkStatus();
  return InvalidArgument(std::string(ImageFormatName(format)) + " image of " +
                         std::to_string(width) + "x" + std::to_string(height) +
                         " is too large (at most " + std::to_string(kMaxImageSide) +
                         " a side and " + std::to_string(kMaxImagePixels >> 20) + " Mi pixels)");
}

namespace {

uint32_t BigEndian32(const char* p) {
  const auto* b = reinterpret_cast<const unsigned char*>(p);
  return static_cast<uint32_t>(b[0]) << 24 | static_cast<uint32_t>(b[1]) << 16 |
         static_cast<uint32_t>(b[2]) << 8 | b[3];
}

StatusOr<ImageInfo> ReadPngInfo(std::string_view bytes) {
  if (bytes.size() < 33 || std::memcmp(bytes.data() + 12, "IHDR", 4) != 0)
    return Corruption("broken PNG: no header");
  const uint32_t width = BigEndian32(bytes.data() + 16);
  const uint32_t height = BigEndian32(bytes.data() + 20);
  WEFT_RETURN_IF_ERROR(CheckImageSize(ImageFormat::kPng, width, height));
  return ImageInfo{ImageFormat::kPng, static_cast<int>(width), static_cast<int>(height)};
}

StatusOr<ImageInfo> ReadWebpInfo(std::string_view bytes) {
  WebPBitstreamFeatures features;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (WebPGetFeatures(data, bytes.size(), &features) != VP8_STATUS_OK)
    return Corruption("broken WebP: no header");
  if (features.has_animation)
    return InvalidArgument("animated WebP image: a sample is one picture");
  WEFT_RETURN_IF_ERROR(CheckImageSize(ImageFormat::kWebp, features.width, features.height));
  return ImageInfo{ImageFormat::kWebp, features.width, features.height};
}

// Walks the markers to the first SOFn; needs no decoder.
StatusOr<ImageInfo> ReadJpegInfo(std::string_view bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t i = 2;
  while (i + 9 <= bytes.size()) {
    if (b[i] != 0xFF) return Corruption("broken JPEG: no marker at byte " + std::to_string(i));
    const unsigned marker = b[i + 1];
    if (marker == 0xFF) {  // fill byte
      ++i;
      continue;
    }
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) {
      i += 2;
      continue;
    }
    const size_t length = static_cast<size_t>(b[i + 2]) << 8 | b[i + 3];
    const bool start_of_frame =
        marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (start_of_frame) {
      const int height = b[i + 5] << 8 | b[i + 6];
      const int width = b[i + 7] << 8 | b[i + 8];
      WEFT_RETURN_IF_ERROR(CheckImageSize(ImageFormat::kJpeg, width, height));
      return ImageInfo{ImageFormat::kJpeg, width, height};
    }
    if (marker == 0xD9 || marker == 0xDA || length < 2) break;
    i += 2 + length;
  }
  return Corruption("broken JPEG: no frame header");
}

}  // namespace

const char* ImageFormatName(ImageFormat format) {
  switch (format) {
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kWebp:
      return "WebP";
    case ImageFormat::kUnknown:
      break;
  }
  return "unknown";
}

ImageFormat SniffImageFormat(std::string_view bytes) {
  if (bytes.size() >= 3 && bytes.substr(0, 3) == "\xFF\xD8\xFF") return ImageFormat::kJpeg;
  if (bytes.size() >= 8 && bytes.substr(0, 8) == "\x89PNG\r\n\x1A\n") return ImageFormat::kPng;
  if (bytes.size() >= 12 && bytes.substr(0, 4) == "RIFF" && bytes.substr(8, 4) == "WEBP")
    return ImageFormat::kWebp;
  return ImageFormat::kUnknown;
}

StatusOr<ImageInfo> ReadImageInfo(std::string_view bytes) {
  switch (SniffImageFormat(bytes)) {
    case ImageFormat::kJpeg:
      return ReadJpegInfo(bytes);
    case ImageFormat::kPng:
      return ReadPngInfo(bytes);
    case ImageFormat::kWebp:
      return ReadWebpInfo(bytes);
    case ImageFormat::kUnknown:
      break;
  }
  return Corruption(bytes.empty() ? "empty image" : "not a JPEG, PNG or WebP image");
}

}  // namespace weft
