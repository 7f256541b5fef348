#include "dataloader/image_decode.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// jpeglib.h needs size_t and FILE.
#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>
#include <spng.h>
#include <webp/decode.h>

#include "dataloader/exif.h"

namespace weft {
namespace {

// Decoding scratch that a PNG or its texts may ask for, beside the pixels.
constexpr size_t kMaxPngChunk = size_t{16} << 20;
constexpr size_t kMaxPngChunkCache = size_t{64} << 20;

Status CheckSize(ImageFormat format, int64_t width, int64_t height) {
  if (width < 1 || height < 1)
    return Corruption(std::string(ImageFormatName(format)) + " image without pixels");
  if (width <= kMaxImageSide && height <= kMaxImageSide && width * height <= kMaxImagePixels)
    return OkStatus();
  return InvalidArgument(std::string(ImageFormatName(format)) + " image of " +
                         std::to_string(width) + "x" + std::to_string(height) +
                         " is too large (at most " + std::to_string(kMaxImageSide) +
                         " a side and " + std::to_string(kMaxImagePixels >> 20) + " Mi pixels)");
}

uint32_t BigEndian32(const char* p) {
  const auto* b = reinterpret_cast<const unsigned char*>(p);
  return static_cast<uint32_t>(b[0]) << 24 | static_cast<uint32_t>(b[1]) << 16 |
         static_cast<uint32_t>(b[2]) << 8 | b[3];
}

// c over white with coverage a, rounded: 255 - (255 - c) * a / 255.
uint8_t OverWhite(unsigned c, unsigned a) {
  const unsigned t = (255 - c) * a + 128;
  return static_cast<uint8_t>(255 - ((t + (t >> 8)) >> 8));
}

void CompositeOverWhite(const uint8_t* rgba, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, rgba += 4, rgb += 3) {
    rgb[0] = OverWhite(rgba[0], rgba[3]);
    rgb[1] = OverWhite(rgba[1], rgba[3]);
    rgb[2] = OverWhite(rgba[2], rgba[3]);
  }
}

void DropAlpha(const uint8_t* rgba, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, rgba += 4, rgb += 3) std::memcpy(rgb, rgba, 3);
}

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

StatusOr<ImageInfo> ReadPngInfo(std::string_view bytes) {
  if (bytes.size() < 33 || std::memcmp(bytes.data() + 12, "IHDR", 4) != 0)
    return Corruption("broken PNG: no header");
  const uint32_t width = BigEndian32(bytes.data() + 16);
  const uint32_t height = BigEndian32(bytes.data() + 20);
  WEFT_RETURN_IF_ERROR(CheckSize(ImageFormat::kPng, width, height));
  return ImageInfo{ImageFormat::kPng, static_cast<int>(width), static_cast<int>(height)};
}

StatusOr<ImageInfo> ReadWebpInfo(std::string_view bytes) {
  WebPBitstreamFeatures features;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (WebPGetFeatures(data, bytes.size(), &features) != VP8_STATUS_OK)
    return Corruption("broken WebP: no header");
  if (features.has_animation)
    return InvalidArgument("animated WebP image: a sample is one picture");
  WEFT_RETURN_IF_ERROR(CheckSize(ImageFormat::kWebp, features.width, features.height));
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
      WEFT_RETURN_IF_ERROR(CheckSize(ImageFormat::kJpeg, width, height));
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

// libjpeg reports errors by longjmp: the functions that call it hold no objects with destructors.
struct ImageDecoder::Jpeg {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  double min_rows = 1;
  // The bytes ended early, with enough rows before.
  bool cut_off = false;

  Jpeg() {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = &Fail;
    errors.emit_message = &Warn;
    errors.output_message = [](j_common_ptr) {};
    info.client_data = this;
    jpeg_create_decompress(&info);
  }
  ~Jpeg() { jpeg_destroy_decompress(&info); }
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;

  static void Fail(j_common_ptr common) {
    auto* self = static_cast<Jpeg*>(common->client_data);
    common->err->format_message(common, self->message);
    longjmp(self->jump, 1);
  }
  // Level -1 is data that does not fit: libjpeg would go on with grey blocks.
  static void Warn(j_common_ptr common, int level) {
    if (level >= 0) return;
    auto* self = static_cast<Jpeg*>(common->client_data);
    const int code = common->err->msg_code;
    if (code == JWRN_JPEG_EOF) self->cut_off = self->cut_off || self->HasEnoughRows();
    // The end is followed by complaints that the scan has ended.
    if (self->cut_off && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) return;
    Fail(common);
  }

  // A scan behind the first one refines rows that are all there.
  bool HasEnoughRows() const {
    if (min_rows >= 1 || info.input_scan_number < 1) return false;
    if (info.input_scan_number > 1) return true;
    const double rows = 8.0 * info.max_v_samp_factor * info.input_iMCU_row;
    return rows >= min_rows * info.image_height;
  }

  // False: see message.
  bool ReadHeader(const char* bytes, size_t size, int shrink) {
    cut_off = false;
    if (setjmp(jump)) {
      jpeg_abort_decompress(&info);
      return false;
    }
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes),
                 static_cast<unsigned long>(size));
    jpeg_read_header(&info, TRUE);
    info.scale_num = 1;
    info.scale_denom = static_cast<unsigned>(shrink);
    // Adobe's CMYK files are inverted; libjpeg converts YCCK only as far as CMYK.
    const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
    info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg_calc_output_dimensions(&info);
    return true;
  }

  // REQUIRES: ReadHeader; `out` holds output_width * output_height * out_color_components bytes.
  bool ReadPixels(uint8_t* out) {
    if (setjmp(jump)) {
      jpeg_abort_decompress(&info);
      return false;
    }
    jpeg_start_decompress(&info);
    const size_t stride =
        static_cast<size_t>(info.output_width) * static_cast<size_t>(info.output_components);
    while (info.output_scanline < info.output_height) {
      JSAMPROW rows[4];
      for (size_t i = 0; i < 4; ++i) rows[i] = out + (info.output_scanline + i) * stride;
      const unsigned left = info.output_height - info.output_scanline;
      jpeg_read_scanlines(&info, rows, left < 4 ? left : 4);
    }
    jpeg_finish_decompress(&info);
    return true;
  }
};

ImageDecoder::ImageDecoder(const DecodePolicy& policy)
    : policy_(policy), jpeg_(std::make_unique<Jpeg>()) {
  jpeg_->min_rows = policy.min_rows;
}
ImageDecoder::~ImageDecoder() = default;

int ImageDecoder::Orientation(std::string_view bytes) const {
  return policy_.apply_exif ? ReadOrientation(bytes) : 1;
}

StatusOr<ImageInfo> ImageDecoder::Info(std::string_view bytes) const {
  WEFT_ASSIGN_OR_RETURN(ImageInfo info, ReadImageInfo(bytes));
  if (SwapsSides(Orientation(bytes))) std::swap(info.width, info.height);
  return info;
}

Status ImageDecoder::Decode(std::string_view bytes, int shrink, Image* image) {
  WEFT_RETURN_IF_ERROR(DecodeStored(bytes, shrink, image));
  const int orientation = Orientation(bytes);
  if (orientation == 1) return OkStatus();
  TurnUpright(*image, orientation, &turned_);
  std::swap(*image, turned_);
  return OkStatus();
}

Status ImageDecoder::DecodeStored(std::string_view bytes, int shrink, Image* image) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, ReadImageInfo(bytes));
  switch (info.format) {
    case ImageFormat::kJpeg:
      return DecodeJpeg(bytes, info, shrink, image);
    case ImageFormat::kPng:
      return DecodePng(bytes, image);
    default:
      return DecodeWebp(bytes, info, image);
  }
}

jpeg::BaselineDecoder* ImageDecoder::OpenBaseline(std::string_view bytes) {
  if (Orientation(bytes) != 1 || !baseline_.Open(bytes)) return nullptr;
  const jpeg::Header& header = baseline_.header();
  return CheckSize(ImageFormat::kJpeg, header.width, header.height).ok() ? &baseline_ : nullptr;
}

bool ImageDecoder::DecodeBaseline(std::string_view bytes, int shrink, const jpeg::Box& box,
                                  PlanarImage* image) {
  if (OpenBaseline(bytes) == nullptr || !baseline_.Decode(shrink, box)) return false;
  image->box = box;
  // Grows only: the samples are written anyway.
  if (image->samples.size() < 3 * image->pixels()) image->samples.resize(3 * image->pixels());
  colours_.ToRgb(baseline_, box, {image->plane(0), image->plane(1), image->plane(2)});
  return true;
}

Status ImageDecoder::DecodeBox(std::string_view bytes, int shrink, const jpeg::Box& box,
                               PlanarImage* image) {
  if (DecodeBaseline(bytes, shrink, box, image)) return OkStatus();
  WEFT_RETURN_IF_ERROR(Decode(bytes, shrink, &whole_));
  if (box.left < 0 || box.top < 0 || box.right > whole_.width || box.bottom > whole_.height)
    return Corruption("an image that decodes to another size than its header says");
  image->box = box;
  if (image->samples.size() < 3 * image->pixels()) image->samples.resize(3 * image->pixels());
  const auto row_bytes = 3 * static_cast<size_t>(whole_.width);
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* out = image->plane(c);
    for (int y = box.top; y < box.bottom; ++y) {
      const uint8_t* in = whole_.rgb.data() + static_cast<size_t>(y) * row_bytes + c +
                          3 * static_cast<size_t>(box.left);
      for (int x = box.left; x < box.right; ++x, in += 3) *out++ = *in;
    }
  }
  return OkStatus();
}

Status ImageDecoder::DecodeJpeg(std::string_view bytes, const ImageInfo& info, int shrink,
                                Image* image) {
  const jpeg::Box box{0, 0, (info.width + shrink - 1) / shrink,
                      (info.height + shrink - 1) / shrink};
  if (DecodeBaseline(bytes, shrink, box, &planar_)) {
    image->width = box.width();
    image->height = box.height();
    const size_t pixels = planar_.pixels();
    image->rgb.resize(3 * pixels);
    for (size_t i = 0; i < pixels; ++i)
      for (size_t c = 0; c < 3; ++c) image->rgb[3 * i + c] = planar_.samples[c * pixels + i];
    return OkStatus();
  }
  Jpeg& jpeg = *jpeg_;
  if (!jpeg.ReadHeader(bytes.data(), bytes.size(), shrink))
    return Corruption(std::string("broken JPEG: ") + jpeg.message);
  // The library may have read another frame header than ReadJpegInfo did.
  const Status size = CheckSize(ImageFormat::kJpeg, jpeg.info.image_width, jpeg.info.image_height);
  if (!size.ok()) {
    jpeg_abort_decompress(&jpeg.info);
    return size;
  }
  image->width = static_cast<int>(jpeg.info.output_width);
  image->height = static_cast<int>(jpeg.info.output_height);
  const size_t pixels = static_cast<size_t>(image->width) * static_cast<size_t>(image->height);
  const bool cmyk = jpeg.info.out_color_space == JCS_CMYK;
  const bool inverted = jpeg.info.saw_Adobe_marker;
  image->rgb.resize(3 * pixels);
  if (cmyk) rgba_.resize(4 * pixels);
  if (!jpeg.ReadPixels(cmyk ? rgba_.data() : image->rgb.data())) {
    return Corruption(std::string("broken JPEG: ") + jpeg.message);
  }
  if (!cmyk) return OkStatus();
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* in = &rgba_[4 * i];
    for (size_t c = 0; c < 3; ++c) {
      const unsigned ink = inverted ? in[c] : 255u - in[c];
      const unsigned black = inverted ? in[3] : 255u - in[3];
      image->rgb[3 * i + c] = static_cast<uint8_t>((ink * black + 127) / 255);
    }
  }
  return OkStatus();
}

void ImageDecoder::TakeRgba(int width, int height, Image* image) const {
  image->width = width;
  image->height = height;
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  image->rgb.resize(3 * pixels);
  (policy_.drop_alpha ? DropAlpha : CompositeOverWhite)(rgba_.data(), pixels, image->rgb.data());
}

Status ImageDecoder::DecodePng(std::string_view bytes, Image* image) {
  WEFT_ASSIGN_OR_RETURN(const SpngContext context, OpenPng(bytes));
  spng_ihdr header;
  int error = spng_get_ihdr(context.get(), &header);
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  WEFT_RETURN_IF_ERROR(CheckSize(ImageFormat::kPng, header.width, header.height));
  // RGBA8 takes all colour types and depths; 16 bits are cut to 8.
  rgba_.resize(4 * static_cast<size_t>(header.width) * header.height);
  error = spng_decode_image(context.get(), rgba_.data(), rgba_.size(), SPNG_FMT_RGBA8,
                            SPNG_DECODE_TRNS);
  if (error != 0) return Corruption(std::string("broken PNG: ") + spng_strerror(error));
  TakeRgba(static_cast<int>(header.width), static_cast<int>(header.height), image);
  return OkStatus();
}

Status ImageDecoder::DecodeWebp(std::string_view bytes, const ImageInfo& info, Image* image) {
  const size_t stride = 4 * static_cast<size_t>(info.width);
  rgba_.resize(stride * static_cast<size_t>(info.height));
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (WebPDecodeRGBAInto(data, bytes.size(), rgba_.data(), rgba_.size(),
                         static_cast<int>(stride)) == nullptr) {
    return Corruption("broken WebP: it does not decode");
  }
  TakeRgba(info.width, info.height, image);
  return OkStatus();
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

namespace {

struct JpegEncoder {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  unsigned char* out = nullptr;
  unsigned long out_size = 0;

  ~JpegEncoder() { std::free(out); }

  static void Fail(j_common_ptr common) {
    auto* self = static_cast<JpegEncoder*>(common->client_data);
    common->err->format_message(common, self->message);
    longjmp(self->jump, 1);
  }

  bool Encode(const Image& image, int quality) {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = &Fail;
    info.client_data = this;
    jpeg_create_compress(&info);
    if (setjmp(jump)) {
      jpeg_destroy_compress(&info);
      out = nullptr;  // the library may have moved its buffer without saying so
      return false;
    }
    jpeg_mem_dest(&info, &out, &out_size);
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    info.optimize_coding = TRUE;
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
      const size_t offset =
          static_cast<size_t>(info.next_scanline) * static_cast<size_t>(image.width) * 3;
      JSAMPROW row = const_cast<JSAMPROW>(image.rgb.data() + offset);  // the library only reads it
      jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    return true;
  }
};

}  // namespace

StatusOr<std::string> EncodeJpeg(const Image& image, int quality) {
  if (quality < 1 || quality > 100)
    return InvalidArgument("JPEG quality " + std::to_string(quality) + " is not in 1..100");
  JpegEncoder encoder;
  if (!encoder.Encode(image, quality))
    return Internal(std::string("JPEG encoder: ") + encoder.message);
  return std::string(reinterpret_cast<const char*>(encoder.out), encoder.out_size);
}

}  // namespace weft
