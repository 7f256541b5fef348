// Any bytes as a PNG or WebP picture (the corpus says which): what decodes has the size of its header and is the same twice;
// a recipe's choices only change what they are about.
#include "cluster/base/logging.h"
#include "dataloader/exif.h"
#include "dataloader/image_decode.h"
#include "dataloader/png_codec.h"

namespace weft {
namespace {

constexpr int64_t kMaxPixels = 1 << 18;  // more only takes longer

void CheckDecoding(std::string_view bytes, const ImageInfo& info) {
  ImageDecoder decoder;
  Image image;
  if (!decoder.Decode(bytes, 1, &image).ok()) return;
  WEFT_CHECK_EQ(image.width, info.width);
  WEFT_CHECK_EQ(image.height, info.height);
  WEFT_CHECK_EQ(image.rgb.size(),
                3 * static_cast<size_t>(info.width) * static_cast<size_t>(info.height));
  Image again;
  WEFT_CHECK(decoder.Decode(bytes, 4, &again).ok());
  WEFT_CHECK(again.rgb == image.rgb);
  ImageDecoder other(DecodePolicy{.drop_alpha = true, .apply_exif = true});
  WEFT_CHECK(other.Decode(bytes, 1, &again).ok());
  WEFT_CHECK_EQ(again.width, other.Info(bytes)->width);
  WEFT_CHECK_EQ(again.rgb.size(), image.rgb.size());
  PlanarImage planar;
  const jpeg::Box box{info.width / 2, info.height / 3, info.width, info.height};
  WEFT_CHECK(decoder.DecodeBox(bytes, 1, box, &planar).ok());
  const auto at = 3 * (static_cast<size_t>(box.top) * static_cast<size_t>(info.width) +
                       static_cast<size_t>(box.left));
  for (size_t c = 0; c < 3; ++c) WEFT_CHECK_EQ(planar.plane(c)[0], image.rgb[at + c]);
}

}  // namespace
}  // namespace weft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const int orientation = weft::ReadOrientation(bytes);
  WEFT_CHECK(orientation >= 1 && orientation <= 8);
  (void)weft::ReadPngTexts(bytes);
  const auto info = weft::ReadImageInfo(bytes);
  if (info.ok() && int64_t{info->width} * info->height <= weft::kMaxPixels)
    weft::CheckDecoding(bytes, *info);
  return 0;
}
