#include "dataloader/jpeg/huffman.h"

#include <algorithm>

namespace weft::jpeg {

Code CodeTable::MakeCode(int length, uint8_t symbol) const {
  Code code;
  code.length = static_cast<uint8_t>(length);
  code.run = is_dc_ ? 0 : symbol >> 4;
  code.size = is_dc_ ? symbol : symbol & 15;
  return code;
}

void CodeTable::Build(const HuffmanSpec& spec, bool is_dc) {
  is_dc_ = is_dc;
  symbols_ = spec.symbols;
  lookup_.fill(Code());
  uint32_t code = 0;
  int symbol = 0;
  for (int bits = 1; bits <= 16; ++bits) {
    const int count = spec.counts[static_cast<size_t>(bits - 1)];
    first_[static_cast<size_t>(bits)] = symbol - static_cast<int32_t>(code);
    for (int i = 0; i < count; ++i, ++code, ++symbol) {
      if (bits > kLookupBits) continue;
      const size_t repeats = size_t{1} << (kLookupBits - bits);
      std::fill_n(lookup_.begin() + static_cast<ptrdiff_t>(code * repeats), repeats,
                  MakeCode(bits, symbols_[static_cast<size_t>(symbol)]));
    }
    limit_[static_cast<size_t>(bits)] = code << (16 - bits);
    code <<= 1;
  }
  limit_[17] = UINT32_MAX;
}

Code CodeTable::FindLong(uint64_t bits) const {
  const auto top = static_cast<uint32_t>(bits >> 48);
  int length = kLookupBits + 1;
  while (top >= limit_[static_cast<size_t>(length)]) ++length;
  if (length > 16) return Code();
  const int index = first_[static_cast<size_t>(length)] + static_cast<int>(top >> (16 - length));
  return MakeCode(length, symbols_[static_cast<size_t>(index & 255)]);
}

namespace {

// The single coefficient that index `i` of the look-up begins with; length 0 if its bits do not fit.
Pair Single(const Code& code, size_t index) {
  Pair pair;
  const int length = code.length + code.size;
  if (code.length == 0 || length > kLookupBits) return pair;
  pair.length = static_cast<uint8_t>(length);
  if (code.size == 0 && code.run != 15) {  // the end: a zero goes where no coefficient was yet
    pair.advance = Pair::kEnd;
    pair.where = {64, 64};
    return pair;
  }
  pair.advance = static_cast<uint8_t>(code.run + 1);
  pair.where = {code.run, code.run};
  if (code.size > 0) {
    const uint64_t bits = static_cast<uint64_t>(index) << (64 - kLookupBits) << code.length;
    pair.value[0] = pair.value[1] = static_cast<int16_t>(Extend(bits, code.size));
  }
  return pair;
}

}  // namespace

void AcTable::Build(const HuffmanSpec& spec) {
  codes_.Build(spec, false);
  constexpr size_t kSize = size_t{1} << kLookupBits;
  std::array<Pair, kSize> singles;
  for (size_t i = 0; i < kSize; ++i) singles[i] = Single(codes_.At(i), i);
  for (size_t i = 0; i < kSize; ++i) {
    Pair pair = singles[i];
    const Pair& next = singles[(i << pair.length) & (kSize - 1)];
    const bool both = pair.length != 0 && next.length != 0 && pair.advance != Pair::kEnd &&
                      pair.length + next.length <= kLookupBits;
    if (both) {
      pair.value[1] = next.value[1];
      pair.where[1] = static_cast<uint8_t>(pair.advance + next.where[1]);
      pair.advance = static_cast<uint8_t>(pair.advance + next.advance);
      pair.length = static_cast<uint8_t>(pair.length + next.length);
    }
    pairs_[i] = pair;
  }
}

}  // namespace weft::jpeg
