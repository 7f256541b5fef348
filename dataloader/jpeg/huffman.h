// Huffman tables for fast decoding: one look-up gives up to two coefficients, values included.
//
// Thread rule: values.
#pragma once

#include <array>
#include <cstdint>

#include "dataloader/jpeg/jpeg_header.h"

namespace weft::jpeg {

// Bits that a look-up sees.
constexpr int kLookupBits = 11;

// One code: its length (0: longer than the look-up, or none), the zeros before the coefficient and the bits of its value.
struct Code {
  uint8_t length = 0;
  uint8_t run = 0;
  uint8_t size = 0;
};

// Codes of any length.
class CodeTable {
 public:
  void Build(const HuffmanSpec& spec, bool is_dc = true);

  // `bits`: the next 64 bits. length 0: no code begins with them.
  Code Find(uint64_t bits) const {
    const Code code = lookup_[bits >> (64 - kLookupBits)];
    return __builtin_expect(code.length != 0, 1) ? code : FindLong(bits);
  }
  const Code& At(size_t index) const { return lookup_[index]; }

 private:
  Code FindLong(uint64_t bits) const;
  Code MakeCode(int length, uint8_t symbol) const;

  bool is_dc_ = false;
  std::array<Code, size_t{1} << kLookupBits> lookup_{};
  // Codes of b bits, left-aligned in 16, lie below limit_[b]; the first has symbol number first_[b] - its code.
  std::array<uint32_t, 18> limit_{};
  std::array<int32_t, 17> first_{};
  std::array<uint8_t, 256> symbols_{};
};

// Up to two coefficients of a look-up. With k the zigzag position before it: k + where[0] gets value[0], then k + where[1]
// gets value[1], then k += advance. A single coefficient is given twice. At the block's end advance holds kEnd.
struct Pair {
  static constexpr int kEnd = 128;

  std::array<int16_t, 2> value{};
  std::array<uint8_t, 2> where{};
  uint8_t advance = 0;
  uint8_t length = 0;  // bits of codes and values; 0: look the code up alone
};
static_assert(sizeof(Pair) == 8);

class AcTable {
 public:
  void Build(const HuffmanSpec& spec);

  const CodeTable& codes() const { return codes_; }
  const Pair& Find(uint64_t bits) const { return pairs_[bits >> (64 - kLookupBits)]; }

 private:
  CodeTable codes_;
  std::array<Pair, size_t{1} << kLookupBits> pairs_{};
};

// The value of `size` bits at the top of `bits`: small ones stand for negative values (T.81, F.2.2.1).
inline int Extend(uint64_t bits, int size) {
  const auto value = static_cast<int>((bits >> 1) >> (63 - size));
  const auto negative = static_cast<int>(~(static_cast<int64_t>(bits) >> 63));
  return value + (negative & (1 - (1 << size)));
}

}  // namespace weft::jpeg
