#include "cluster/base/hash.h"

#include <crc32c/crc32c.h>
#include <openssl/sha.h>

namespace weft {

std::string Sha256Hex(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  static const char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * SHA256_DIGEST_LENGTH);
  for (const unsigned char byte : digest) {
    hex.push_back(kHex[byte >> 4]);
    hex.push_back(kHex[byte & 15]);
  }
  return hex;
}

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
  return crc32c::Extend(crc, static_cast<const uint8_t*>(data), size);
}

}  // namespace weft
