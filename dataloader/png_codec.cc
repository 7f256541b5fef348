#include "dataloader/png_codec.h"

#include <spng.h>

#include <memory>

namespace weft {
namespace {

// Decoding scratch that a PNG or its texts may ask for, beside the pixels.
constexpr size_t kMaxPngChunk = size_t{16} << 20;
constexpr size_t kMaxPngChunkCache = size_t{64} << 20;

struct SpngDeleter {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};
using SpngContext = std::unique_ptr<spng_ctx, SpngDeleter>;

StatusOr<SpngContext> OpenPng(std::string_view bytes) {
  SpngContext context(spng_ctx_new(0));
  if (!context) return ResourceExhausted("no memory for a PNG decoder");
  spng_set_image_limits(context.get(), kMaxImageSide, kMaxImageSide);
  spng_set_chunk_limits(context.get(), kMaxPngChunk, kMaxPngChunkCache);
  spng_set_crc_action(context.get(), SPNG_CRC_ERROR, SPNG_CRC_USE);
  const int error = spng_set_png_buffer(context.get(), bytes.data(), bytes.size());
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  return context;
}

}  // namespace

StatusOr<ImageInfo> DecodePng(std::string_view bytes, std::vector<uint8_t>* rgba) {
  WEFT_ASSIGN_OR_RETURN(const SpngContext context, OpenPng(bytes));
  spng_ihdr header;
  int error = spng_get_ihdr(context.get(), &header);
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  WEFT_RETURN_IF_ERROR(CheckImageSize(ImageFormat::kPng, header.width, header.height));
  // RGBA8 takes all colour types and depths; 16 bits are cut to 8.
  rgba->resize(4 * static_cast<size_t>(header.width) * header.height);
  error = spng_decode_image(context.get(), rgba->data(), rgba->size(), SPNG_FMT_RGBA8,
                            SPNG_DECODE_TRNS);
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  return ImageInfo{ImageFormat::kPng, static_cast<int>(header.width),
                   static_cast<int>(header.height)};
}

StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPngTexts(std::string_view bytes) {
  WEFT_ASSIGN_OR_RETURN(const SpngContext context, OpenPng(bytes));
  uint32_t count = 0;
  int error = spng_decode_chunks(context.get());
  if (error == 0) error = spng_get_text(context.get(), nullptr, &count);
  std::vector<std::pair<std::string, std::string>> texts;
  if (error == SPNG_ECHUNKAVAIL) return texts;
  std::vector<spng_text> raw(count);
  if (error == 0) error = spng_get_text(context.get(), raw.data(), &count);
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  for (const spng_text& text : raw)
    texts.emplace_back(text.keyword, std::string(text.text, text.length));
  return texts;
}

}  // namespace weft
