#include "dataloader/jpeg/scan_bytes.h"

#include <cstring>

namespace weft::jpeg {

bool ScanBytes::Read(std::string_view bytes, size_t num_segments) {
  // Grows only: zeroing what is overwritten anyway would cost a pass.
  if (buffer_.size() < bytes.size() + kPadding) buffer_.resize(bytes.size() + kPadding);
  ends_.clear();
  const char* in = bytes.data();
  const char* const end = in + bytes.size();
  uint8_t* out = buffer_.data();
  while (in < end) {
    const auto* mark =
        static_cast<const char*>(std::memchr(in, 0xFF, static_cast<size_t>(end - in)));
    if (mark == nullptr || mark + 1 == end) return false;
    const auto length = static_cast<size_t>(mark - in);
    std::memcpy(out, in, length);
    out += length;
    in = mark + 2;
    const auto next = static_cast<uint8_t>(mark[1]);
    if (next == 0) {
      *out++ = 0xFF;
      continue;
    }
    ends_.push_back(static_cast<size_t>(out - buffer_.data()));
    if (next == 0xD9) {
      std::memset(out, 0, kPadding);
      return ends_.size() == num_segments;
    }
    if (next != 0xD0 + ((ends_.size() - 1) & 7) || ends_.size() >= num_segments) return false;
  }
  return false;
}

}  // namespace weft::jpeg
