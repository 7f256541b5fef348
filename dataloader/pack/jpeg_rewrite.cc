#include "dataloader/pack/jpeg_rewrite.h"

#include <jpeglib.h>

#include <csetjmp>
#include <cstdint>
#include <cstdlib>

namespace weft {
namespace {

// Everything that libjpeg's jump out of an error must not lose lives here.
class Rewriter {
 public:
  Rewriter() {
    in_.err = jpeg_std_error(&errors_.base);
    out_.err = in_.err;
    errors_.base.error_exit = [](j_common_ptr info) {
      auto* errors = reinterpret_cast<Errors*>(info->err);
      info->err->format_message(info, errors->message);
      std::longjmp(errors->jump, 1);
    };
    // A warning is a broken stream: what libjpeg would fill in must not become the picture.
    errors_.base.emit_message = [](j_common_ptr info, int level) {
      if (level < 0) info->err->error_exit(info);
    };
  }
  ~Rewriter() {
    jpeg_destroy_decompress(&in_);
    jpeg_destroy_compress(&out_);
    std::free(bytes_);
  }
  Rewriter(const Rewriter&) = delete;
  Rewriter& operator=(const Rewriter&) = delete;

  bool Run(const unsigned char* data, size_t size) {
    if (setjmp(errors_.jump) != 0) return false;
    jpeg_create_decompress(&in_);
    jpeg_create_compress(&out_);
    jpeg_mem_src(&in_, data, size);
    jpeg_save_markers(&in_, JPEG_APP0 + 1, 0xFFFF);
    jpeg_save_markers(&in_, JPEG_APP0 + 2, 0xFFFF);
    jpeg_read_header(&in_, TRUE);
    jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&in_);
    jpeg_mem_dest(&out_, &bytes_, &size_);
    jpeg_copy_critical_parameters(&in_, &out_);
    out_.optimize_coding = TRUE;
    jpeg_write_coefficients(&out_, coefficients);
    for (jpeg_saved_marker_ptr marker = in_.marker_list; marker != nullptr; marker = marker->next)
      jpeg_write_marker(&out_, marker->marker, marker->data, marker->data_length);
    jpeg_finish_compress(&out_);
    jpeg_finish_decompress(&in_);
    return true;
  }

  std::string Result() const { return {reinterpret_cast<const char*>(bytes_), size_}; }
  const char* message() const { return errors_.message; }

 private:
  struct Errors {
    jpeg_error_mgr base;
    std::jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
  };

  jpeg_decompress_struct in_ = {};
  jpeg_compress_struct out_ = {};
  Errors errors_ = {};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

bool IsProgressiveJpeg(std::string_view bytes) {
  if (!bytes.starts_with("\xFF\xD8")) return false;
  for (size_t at = 2; at + 4 <= bytes.size();) {
    if (bytes[at] != '\xFF') return false;
    const auto marker = static_cast<uint8_t>(bytes[at + 1]);
    if (marker == 0xFF) {  // a fill byte
      ++at;
      continue;
    }
    if (marker == 0xC2) return true;
    // Another frame, the scan or the end: not progressive.
    if ((marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) ||
        marker == 0xDA || marker == 0xD9)
      return false;
    at += 2 +
          (size_t{static_cast<uint8_t>(bytes[at + 2])} << 8 | static_cast<uint8_t>(bytes[at + 3]));
  }
  return false;
}

StatusOr<std::string> ToBaselineJpeg(std::string_view bytes) {
  Rewriter rewriter;
  if (!rewriter.Run(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()))
    return Corruption(std::string("a JPEG that does not decode: ") + rewriter.message());
  return rewriter.Result();
}

}  // namespace weft
