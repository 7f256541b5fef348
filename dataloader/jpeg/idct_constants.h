// Fixed-point constants of the transforms: cosines with 13 fraction bits, and 2 bits kept between the two passes.
#pragma once

#include <cstdint>

namespace weft::jpeg {

constexpr int kConstBits = 13;
constexpr int kPassBits = 2;

constexpr int Fix(double x) { return static_cast<int>(x * (1 << kConstBits) + 0.5); }

}  // namespace weft::jpeg
