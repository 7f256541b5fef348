#include "dataloader/jpeg_codec.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>

// jpeglib.h needs size_t and FILE.
#include <jerror.h>
#include <jpeglib.h>
#include <setjmp.h>

#include "dataloader/image_header.h"

namespace weft {

// libjpeg reports errors by longjmp: the functions that call it hold no objects with destructors.
struct TurboJpeg::Library {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  double min_rows = 1;
  // The bytes ended early, with enough rows before.
  bool cut_off = false;

  Library() {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = &Fail;
    errors.emit_message = &Warn;
    errors.output_message = [](j_common_ptr) {};
    info.client_data = this;
    jpeg_create_decompress(&info);
  }
  ~Library() { jpeg_destroy_decompress(&info); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  static void Fail(j_common_ptr common) {
    auto* self = static_cast<Library*>(common->client_data);
    common->err->format_message(common, self->message);
    longjmp(self->jump, 1);
  }
  // Level -1 is data that does not fit: libjpeg would go on with grey blocks.
  static void Warn(j_common_ptr common, int level) {
    if (level >= 0) return;
    auto* self = static_cast<Library*>(common->client_data);
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

TurboJpeg::TurboJpeg(double min_rows) : library_(std::make_unique<Library>()) {
  library_->min_rows = min_rows;
}
TurboJpeg::~TurboJpeg() = default;

Status TurboJpeg::Decode(std::string_view bytes, int shrink, Image* image) {
  Library& jpeg = *library_;
  if (!jpeg.ReadHeader(bytes.data(), bytes.size(), shrink))
    return Corruption(std::string("broken JPEG: ") + jpeg.message);
  // The library may have read another frame header than ReadImageInfo did.
  const Status size =
      CheckImageSize(ImageFormat::kJpeg, jpeg.info.image_width, jpeg.info.image_height);
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
  if (cmyk) cmyk_.resize(4 * pixels);
  if (!jpeg.ReadPixels(cmyk ? cmyk_.data() : image->rgb.data())) {
    return Corruption(std::string("broken JPEG: ") + jpeg.message);
  }
  if (!cmyk) return OkStatus();
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* in = &cmyk_[4 * i];
    for (size_t c = 0; c < 3; ++c) {
      const unsigned ink = inverted ? in[c] : 255u - in[c];
      const unsigned black = inverted ? in[3] : 255u - in[3];
      image->rgb[3 * i + c] = static_cast<uint8_t>((ink * black + 127) / 255);
    }
  }
  return OkStatus();
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
