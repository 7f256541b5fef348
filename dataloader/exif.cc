#include "dataloader/exif.h"

#include <cstring>

namespace weft {
namespace {

// Numbers in the byte order that the block names; 0 outside of it.
class TiffBlock {
 public:
  explicit TiffBlock(std::string_view bytes)
      : bytes_(bytes), little_(bytes.substr(0, 4) == std::string_view("II*\0", 4)) {}

  bool good() const { return little_ || bytes_.substr(0, 4) == std::string_view("MM\0*", 4); }
  uint32_t U16(size_t at) const { return Read(at, 2); }
  uint32_t U32(size_t at) const { return Read(at, 4); }

 private:
  uint32_t Read(size_t at, size_t size) const {
    if (at > bytes_.size() || bytes_.size() - at < size) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t from = little_ ? size - 1 - i : i;
      value = value << 8 | static_cast<unsigned char>(bytes_[at + from]);
    }
    return value;
  }

  std::string_view bytes_;
  bool little_;
};

int OrientationOf(std::string_view exif) {
  constexpr uint32_t kTag = 0x0112;
  constexpr uint32_t kShort = 3;
  const TiffBlock block(exif);
  if (!block.good()) return 1;
  const size_t directory = block.U32(4);
  const size_t entries = block.U16(directory);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (block.U16(entry) != kTag) continue;
    const uint32_t value = block.U16(entry + 8);
    return block.U16(entry + 2) == kShort && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

uint32_t BigEndian(std::string_view bytes, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

std::string_view JpegExif(std::string_view bytes) {
  constexpr std::string_view kName("Exif\0\0", 6);
  size_t at = 2;
  while (at + 4 <= bytes.size() && bytes[at] == '\xFF') {
    const unsigned marker = BigEndian(bytes, at + 1, 1);
    const size_t length = BigEndian(bytes, at + 2, 2);
    if (marker == 0xDA || length < 2 || bytes.size() - at - 2 < length) break;
    const std::string_view segment = bytes.substr(at + 4, length - 2);
    if (marker == 0xE1 && segment.substr(0, kName.size()) == kName)
      return segment.substr(kName.size());
    at += 2 + length;
  }
  return {};
}

std::string_view PngExif(std::string_view bytes) {
  size_t at = 8;
  while (at + 12 <= bytes.size()) {
    const size_t length = BigEndian(bytes, at, 4);
    if (length > bytes.size() - at - 12) break;
    if (bytes.substr(at + 4, 4) == "eXIf") return bytes.substr(at + 8, length);
    at += 12 + length;
  }
  return {};
}

std::string_view WebpExif(std::string_view bytes) {
  size_t at = 12;
  while (at + 8 <= bytes.size()) {
    size_t length = 0;
    for (size_t i = 4; i > 0; --i)
      length = length << 8 | static_cast<unsigned char>(bytes[at + 3 + i]);
    if (length > bytes.size() - at - 8) break;
    if (bytes.substr(at, 4) == "EXIF") return bytes.substr(at + 8, length);
    at += 8 + length + (length & 1);
  }
  return {};
}

}  // namespace

int ReadOrientation(std::string_view bytes) {
  switch (SniffImageFormat(bytes)) {
    case ImageFormat::kJpeg:
      return OrientationOf(JpegExif(bytes));
    case ImageFormat::kPng:
      return OrientationOf(PngExif(bytes));
    case ImageFormat::kWebp:
      return OrientationOf(WebpExif(bytes));
    case ImageFormat::kUnknown:
      break;
  }
  return 1;
}

void TurnUpright(const Image& stored, int orientation, Image* upright) {
  const bool swaps = SwapsSides(orientation);
  // Where the upright picture's first row and column lie: the tag says it by name.
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  upright->width = swaps ? stored.height : stored.width;
  upright->height = swaps ? stored.width : stored.height;
  upright->rgb.resize(stored.rgb.size());
  uint8_t* out = upright->rgb.data();
  for (int y = 0; y < upright->height; ++y) {
    for (int x = 0; x < upright->width; ++x, out += 3) {
      int column = swaps ? y : x;
      int row = swaps ? x : y;
      if (from_right) column = stored.width - 1 - column;
      if (from_bottom) row = stored.height - 1 - row;
      const size_t at = static_cast<size_t>(row) * static_cast<size_t>(stored.width) +
                        static_cast<size_t>(column);
      std::memcpy(out, stored.rgb.data() + 3 * at, 3);
    }
  }
}

}  // namespace weft
