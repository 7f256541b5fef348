// Hashes that are part of a format or of the mathematics; they never change.
//
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

// FNV-1a, 64 bits. Fnv1a64("abc") == 0xe71fa2190541574b.
constexpr uint64_t Fnv1a64(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3ULL;
  }
  return hash;
}

// The finaliser of splitmix64: a bijection on 64 bits in which each input bit reaches each output bit.
constexpr uint64_t Mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Mixes `value` into `hash`; order matters.
constexpr uint64_t HashCombine(uint64_t hash, uint64_t value) {
  return Mix64(hash + 0x9E3779B97F4A7C15ULL + Mix64(value));
}

// SHA-256 in lower-case hex (64 characters).
std::string Sha256Hex(std::string_view bytes);

// CRC32C (Castagnoli) of `size` bytes, continued from `crc` (0 to start).
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

namespace hash_internal {
// The same without special instructions; a test compares the two.
uint32_t Crc32cByTable(const void* data, size_t size, uint32_t crc = 0);
}  // namespace hash_internal

}  // namespace weft
