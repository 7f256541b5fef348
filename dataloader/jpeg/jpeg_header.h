// What stands in front of a baseline JPEG's one scan: frame, tables, restart interval (ITU-T T.81, annex B).
//
// Only the common files are taken: 8-bit Huffman-coded baseline, gray or YCbCr as 4:4:4, 4:2:2 or 4:2:0, all components in
// one scan. Whatever else there is, broken files included, is left to libjpeg-turbo, which then decides.
// Thread rule: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::jpeg {

// A Huffman table as a DHT segment gives it.
struct HuffmanSpec {
  int num_symbols = 0;                 // 0: there is none
  std::array<uint8_t, 16> counts{};    // codes of 1, 2, ... 16 bits
  std::array<uint8_t, 256> symbols{};  // in the order of their codes; 0 behind the last

  bool operator==(const HuffmanSpec&) const = default;
};

struct Component {
  int id = 0;
  int h = 1;  // sampling factors
  int v = 1;
  int quant = 0;
  int dc = 0;
  int ac = 0;
};

struct Header {
  int width = 0;
  int height = 0;
  int num_components = 0;
  std::array<Component, 3> components;
  // By row and column of the block; steps of 8 bits.
  std::array<std::array<uint16_t, 64>, 4> quant{};
  std::array<bool, 4> has_quant{};
  std::array<HuffmanSpec, 4> dc;
  std::array<HuffmanSpec, 4> ac;
  int restart_interval = 0;  // in MCUs; 0: none
  size_t scan_begin = 0;     // the first byte of coded data
};

// Zigzag position to row * 8 + column.
extern const std::array<uint8_t, 64> kZigzag;

// False: not a file for this decoder. Reads no byte outside `bytes`, allocates nothing.
bool ParseHeader(std::string_view bytes, Header* header);

}  // namespace weft::jpeg
