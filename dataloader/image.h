// A picture in memory: 8-bit RGB. Thread rule: a value.
#pragma once

#include <cstdint>
#include <vector>

namespace weft {

// Rows top to bottom, pixels of 3 bytes R, G, B without padding.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

}  // namespace weft
