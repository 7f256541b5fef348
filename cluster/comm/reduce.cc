#include "cluster/comm/reduce.h"

#include <algorithm>
#include <cstring>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// Elements that are summed at a time: the accumulators stay in the first-level cache.
constexpr size_t kBlock = 1024;

// Memory form <-> accumulator, of types whose two forms are the same.
template <typename T>
struct Plain {
  using Accumulator = T;
  static constexpr size_t kBytes = sizeof(T);
  static T Load(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return value;
  }
  static void Store(std::byte* p, T value) { std::memcpy(p, &value, sizeof(T)); }
};

struct BFloat16 {
  using Accumulator = float;
  static constexpr size_t kBytes = 2;
  static float Load(const std::byte* p) {
    uint16_t half;
    std::memcpy(&half, p, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  static void Store(std::byte* p, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t quiet_nan = (bits >> 16) | 0x40;  // rounding could carry a NaN into infinity
    const auto half = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
    std::memcpy(p, &half, 2);
  }
};

struct Sum {
  template <typename T>
  static T Apply(T a, T b) {
    return static_cast<T>(a + b);
  }
};

// Integers wrap around instead of being undefined.
template <>
int64_t Sum::Apply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

struct Max {
  template <typename T>
  static T Apply(T a, T b) {
    return b > a || b != b ? b : a;
  }
};

template <typename Type, typename Op>
void ReduceBlocks(std::span<const void* const> sources, void* dst, size_t count) {
  using Accumulator = typename Type::Accumulator;
  Accumulator acc[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t n = std::min(kBlock, count - begin);
    const size_t offset = begin * Type::kBytes;
    const auto* first = static_cast<const std::byte*>(sources[0]) + offset;
    for (size_t i = 0; i < n; ++i) acc[i] = Type::Load(first + i * Type::kBytes);
    for (const void* source : sources.subspan(1)) {
      const auto* next = static_cast<const std::byte*>(source) + offset;
      for (size_t i = 0; i < n; ++i)
        acc[i] = Op::Apply(acc[i], Type::Load(next + i * Type::kBytes));
    }
    auto* out = static_cast<std::byte*>(dst) + offset;
    for (size_t i = 0; i < n; ++i) Type::Store(out + i * Type::kBytes, acc[i]);
  }
}

template <typename Op>
void ReduceWith(std::span<const void* const> sources, void* dst, size_t count, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ReduceBlocks<Plain<float>, Op>(sources, dst, count);
    case DType::kFloat64:
      return ReduceBlocks<Plain<double>, Op>(sources, dst, count);
    case DType::kBFloat16:
      return ReduceBlocks<BFloat16, Op>(sources, dst, count);
    case DType::kInt64:
      return ReduceBlocks<Plain<int64_t>, Op>(sources, dst, count);
    case DType::kUInt8:
      return ReduceBlocks<Plain<uint8_t>, Op>(sources, dst, count);
  }
}

}  // namespace

void ReduceElements(std::span<const void* const> sources, void* dst, size_t count, DType dtype,
                    ReduceOp op) {
  WEFT_CHECK(!sources.empty());
  if (op == ReduceOp::kSum) {
    ReduceWith<Sum>(sources, dst, count, dtype);
  } else {
    ReduceWith<Max>(sources, dst, count, dtype);
  }
}

}  // namespace weft
