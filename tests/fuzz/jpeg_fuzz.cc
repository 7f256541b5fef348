// Any bytes as a JPEG. Whatever Weft's own decoder takes, libjpeg-turbo takes without a warning, and finds the same
// coefficients; boxes and shrunken pictures are decoded for the sanitizers' sake. (Pixels are compared by BaselineJpeg's
// tests: of coefficients that no encoder writes, libjpeg-turbo's own paths make different ones.)
#include "cluster/base/logging.h"
#include "dataloader/image_decode.h"
#include "tests/dataloader/jpeg_oracle.h"

namespace weft {
namespace {

constexpr int64_t kMaxPixels = 1 << 18;  // more only takes longer

void DecodeBoxes(std::string_view bytes, const jpeg::Header& header) {
  jpeg::BaselineDecoder decoder;
  WEFT_CHECK(decoder.Open(bytes));
  for (const int shrink : {1, 2, 4, 8}) {
    const int width = (header.width + shrink - 1) / shrink;
    const int height = (header.height + shrink - 1) / shrink;
    for (const jpeg::Box& box : {jpeg::Box{0, 0, width, height},
                                 jpeg::Box{width / 3, height / 2, width - width / 4, height},
                                 jpeg::Box{width - 1, 0, width, 1}}) {
      if (!decoder.Decode(shrink, box)) continue;
      std::vector<uint8_t> planes(3 * static_cast<size_t>(box.width()) *
                                  static_cast<size_t>(box.height()));
      uint8_t* data = planes.data();
      const size_t plane = planes.size() / 3;
      jpeg::ColourConverter().ToRgb(decoder, box, {data, data + plane, data + 2 * plane});
    }
  }
}

}  // namespace
}  // namespace weft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  weft::ImageDecoder forgiving(weft::DecodePolicy{.apply_exif = true, .min_rows = 0.3});
  const auto info = forgiving.Info(bytes);
  if (info.ok() && int64_t{info->width} * info->height > weft::kMaxPixels) return 0;
  weft::Image image;
  if (info.ok()) (void)forgiving.Decode(bytes, 2, &image);
  weft::jpeg::Header header;
  if (!weft::jpeg::ParseHeader(bytes, &header)) return 0;
  if (int64_t{header.width} * header.height > weft::kMaxPixels) return 0;
  const auto own = weft::OwnCoefficients(bytes);
  if (!own.empty()) WEFT_CHECK(own == weft::OracleCoefficients(bytes));
  weft::DecodeBoxes(bytes, header);
  return 0;
}
