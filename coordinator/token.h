// The fencing token: (coordinator epoch, membership generation). Order is lexicographic; a token is never used twice. A
// receiver drops what carries a smaller one.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

namespace weft {

struct Token {
  uint64_t epoch = 0;
  uint64_t generation = 0;
  auto operator<=>(const Token&) const = default;
  std::string ToString() const {
    return "E" + std::to_string(epoch) + ".G" + std::to_string(generation);
  }
};

}  // namespace weft
