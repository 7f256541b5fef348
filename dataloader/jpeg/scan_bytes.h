// The coded bytes of a scan without stuffing, cut at its restart markers.
//
// Thread rule: belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace weft::jpeg {

class ScanBytes {
 public:
  // What may be read behind a segment's end: more than a broken MCU can ask for.
  static constexpr size_t kPadding = 2048;

  struct Segment {
    const uint8_t* begin = nullptr;
    const uint8_t* end = nullptr;
  };

  // `bytes` begin behind the scan's header. False unless there are exactly `num_segments`, with restart markers in order
  // between them and the end-of-image marker behind.
  bool Read(std::string_view bytes, size_t num_segments);
  Segment segment(size_t index) const {
    return {buffer_.data() + (index == 0 ? 0 : ends_[index - 1]), buffer_.data() + ends_[index]};
  }

 private:
  std::vector<uint8_t> buffer_;
  std::vector<size_t> ends_;
};

}  // namespace weft::jpeg
