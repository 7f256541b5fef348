// CRC32C in its own file: eight bytes an instruction where the CPU has SSE 4.2, a table of 256 entries elsewhere.
#include <array>
#include <cstring>

#include "cluster/base/hash.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace weft {
namespace {

constexpr uint32_t kReversedPolynomial = 0x82F63B78;

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}

uint32_t ExtendByTable(uint32_t state, const unsigned char* bytes, size_t size) {
  static constexpr std::array<uint32_t, 256> kTable = MakeTable();
  for (size_t i = 0; i < size; ++i) state = kTable[(state ^ bytes[i]) & 0xFF] ^ (state >> 8);
  return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t ExtendByInstruction(uint32_t state,
                                                               const unsigned char* bytes,
                                                               size_t size) {
  uint64_t wide = state;
  for (; size >= 8; bytes += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    wide = _mm_crc32_u64(wide, word);
  }
  auto narrow = static_cast<uint32_t>(wide);
  for (; size > 0; ++bytes, --size) narrow = _mm_crc32_u8(narrow, *bytes);
  return narrow;
}
#endif

}  // namespace

namespace hash_internal {

uint32_t Crc32cByTable(const void* data, size_t size, uint32_t crc) {
  return ~ExtendByTable(~crc, static_cast<const unsigned char*>(data), size);
}

}  // namespace hash_internal

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2") != 0) {
    return ~ExtendByInstruction(~crc, static_cast<const unsigned char*>(data), size);
  }
#endif
  return hash_internal::Crc32cByTable(data, size, crc);
}

}  // namespace weft
