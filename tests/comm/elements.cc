#include "tests/comm/elements.h"

#include <algorithm>
#include <cmath>

namespace weft::testing {
namespace {

// By way of nearbyint, unlike the code under test.
float RoundToBFloat16(float value) {
  if (value == 0) return value;
  const int exponent = std::ilogb(value);
  const float unit = std::ldexp(1.0f, exponent - 7);
  return std::nearbyint(value / unit) * unit;
}

}  // namespace

double Value(int rank, size_t i) {
  const auto mixed =
      static_cast<uint32_t>((i + 1) * 2654435761u + static_cast<uint32_t>(rank) * 40503u);
  return (static_cast<double>(mixed % 2000) - 1000.0) / 7.0;
}

double Stored(DType dtype, int rank, size_t i) {
  const double value = Value(rank, i);
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<float>(value);
    case DType::kFloat64:
      return value;
    case DType::kBFloat16:
      return RoundToBFloat16(static_cast<float>(value));
    case DType::kInt64:
      return static_cast<double>(static_cast<int64_t>(value));
    case DType::kUInt8:
      return static_cast<uint8_t>(static_cast<int64_t>(value) & 0x3f);
  }
  return 0;
}

double Reduced(DType dtype, ReduceOp op, int ranks, size_t i) {
  double sum64 = Stored(dtype, 0, i);
  auto sum32 = static_cast<float>(sum64);
  double max = sum64;
  for (int rank = 1; rank < ranks; ++rank) {
    const double next = Stored(dtype, rank, i);
    sum64 += next;
    sum32 += static_cast<float>(next);
    max = std::max(max, next);
  }
  if (op == ReduceOp::kMax) return max;
  switch (dtype) {
    case DType::kFloat32:
      return sum32;
    case DType::kBFloat16:
      return RoundToBFloat16(sum32);
    case DType::kUInt8:
      return static_cast<uint8_t>(sum64);
    default:
      return sum64;
  }
}

double SumSlack(DType dtype, ReduceOp op) {
  if (op == ReduceOp::kMax) return 0;
  return dtype == DType::kFloat32    ? 1e-3
         : dtype == DType::kFloat64  ? 1e-11
         : dtype == DType::kBFloat16 ? 16
                                     : 0;
}

}  // namespace weft::testing
