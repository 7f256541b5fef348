// Decoded planes to red, green and blue, as libjpeg-turbo does it by default: "fancy" (triangle) upsampling of the chroma,
// ITU-R 601 with rounded 16-bit constants. Integers only: the same bytes with every instruction set.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dataloader/jpeg/baseline_decoder.h"

namespace weft::jpeg {

// Thread rule: holds scratch memory, belongs to one thread at a time.
class ColourConverter {
 public:
  // The box that was decoded to three planes of box.width() * box.height() bytes.
  void ToRgb(const BaselineDecoder& decoder, const Box& box, const std::array<uint8_t*, 3>& planes);

 private:
  // The chroma of the box's pixels in row `y`.
  const uint8_t* ChromaRow(const BaselineDecoder& decoder, int component, const Box& box, int y);

  std::vector<int16_t> sums_;
  std::array<std::vector<uint8_t>, 3> rows_;
};

// One row of `count` pixels, in exact arithmetic.
void YccToRgb(const uint8_t* y, const uint8_t* cb, const uint8_t* cr, int count, uint8_t* red,
              uint8_t* green, uint8_t* blue);

}  // namespace weft::jpeg
