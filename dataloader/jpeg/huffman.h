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
// One word, so that it stays in a register.
class Code {
 public:
  Code() = default;
  Code(int length, int run, int size)
      : word_(static_cast<uint32_t>(length) | static_cast<uint32_t>(run) << 8 |
              static_cast<uint32_t>(size) << 16) {}

  int length() const { return static_cast<uint8_t>(word_); }
  int run() const { return static_cast<uint8_t>(word_ >> 8); }
  int size() const { return static_cast<int>(word_ >> 16); }
  int bits() const { return length() + size(); }

 private:
  uint32_t word_ = 0;
};

// Codes of any length.
class CodeTable {
 public:
  void Build(const HuffmanSpec& spec, bool is_dc = true);

  // `bits`: the next 64 bits. length 0: no code begins with them.
  Code Find(uint64_t bits) const {
    const Code code = lookup_[bits >> (64 - kLookupBits)];
    return __builtin_expect(code.length() != 0, 1) ? code : FindLong(bits);
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

// What one look-up gives: up to two coefficients. With k the next zigzag position, k + first() gets value(), k + second() the
// last size() of the length() bits, extended, and k + advance() is next. A single coefficient comes as the second one; where
// the first would be, a zero is written that it or a later one overwrites. One word, and the length lowest: the next look-up
// waits for nothing else.
class Pair {
 public:
  static constexpr int kEnd = 128;  // advance() at the block's end
  static constexpr int kRare = 64;  // first(), if the code is longer than the look-up

  Pair() = default;
  Pair(int length, int first, int second, int advance, int size, int value)
      : word_(Byte(length, 0) | Byte(first, 8) | Byte(second, 16) | Byte(advance, 24) |
              Byte(size, 32) | static_cast<uint64_t>(static_cast<uint16_t>(value)) << 48) {}

  int length() const { return At(0); }
  int first() const { return At(8); }
  int second() const { return At(16); }
  int advance() const { return At(24); }
  int size() const { return At(32); }
  int16_t value() const { return static_cast<int16_t>(word_ >> 48); }

 private:
  static uint64_t Byte(int value, int at) { return static_cast<uint64_t>(value) << at; }
  int At(int bit) const { return static_cast<uint8_t>(word_ >> bit); }

  uint64_t word_ = uint64_t{kRare} << 8;
};

class AcTable {
 public:
  void Build(const HuffmanSpec& spec);

  const CodeTable& codes() const { return codes_; }
  Pair Find(uint64_t bits) const { return pairs_[bits >> (64 - kLookupBits)]; }

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
