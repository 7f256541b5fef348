#include "dataloader/jpeg/huffman.h"

#include <algorithm>

namespace weft::jpeg {

Code CodeTable::MakeCode(int length, uint8_t symbol) const {
  if (is_dc_) return Code(length, 0, symbol);
  return Code(length, symbol >> 4, symbol & 15);
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

bool IsEnd(const Code& code) { return code.size() == 0 && code.run() != 15; }

// At the end of a block the second coefficient is a zero where no coefficient was yet.
Pair Single(const Code& code) {
  if (code.length() == 0) return Pair();
  const int length = code.bits();
  if (IsEnd(code)) return Pair(length, 0, 64, Pair::kEnd, 0, 0);
  return Pair(length, 0, code.run(), code.run() + 1, code.size(), 0);
}

// The coefficient that look-up `index` begins with, and `next`.
Pair Join(const Code& first, size_t index, const Pair& next) {
  const int length = first.bits();
  const uint64_t bits = static_cast<uint64_t>(index) << (64 - kLookupBits) << first.length();
  return Pair(length + next.length(), first.run(), first.run() + 1 + next.second(),
              first.run() + 1 + next.advance(), next.size(), Extend(bits, first.size()));
}

}  // namespace

void AcTable::Build(const HuffmanSpec& spec) {
  codes_.Build(spec, false);
  constexpr size_t kSize = size_t{1} << kLookupBits;
  for (size_t i = 0; i < kSize; ++i) {
    const Code& code = codes_.At(i);
    pairs_[i] = Single(code);
    const int length = code.bits();
    if (code.length() == 0 || code.size() == 0 || length >= kLookupBits) continue;
    const Code& next = codes_.At((i << length) & (kSize - 1));
    if (next.length() != 0 && length + next.length() <= kLookupBits)
      pairs_[i] = Join(code, i, Single(next));
  }
}

}  // namespace weft::jpeg
