// Values that ranks put into collectives, and what should become of them, worked out by other means than the code under test.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cluster/comm/communicator.h"

namespace weft::testing {

// A pattern that differs by rank and place. Small integers and fractions with rounding errors alike.
double Value(int rank, size_t i);

// What rank `rank` has at element i, after the rounding of its type.
double Stored(DType dtype, int rank, size_t i);

// The reduction of element i over all ranks, in rank order.
double Reduced(DType dtype, ReduceOp op, int ranks, size_t i);

// By how much a sum of up to eight of these values may differ if another order is taken, and rounded at every step.
double SumSlack(DType dtype, ReduceOp op);

// Unaligned memory with elements of a type.
class Elements {
 public:
  Elements(DType dtype, size_t count, size_t offset = 0)
      : dtype_(dtype),
        count_(count),
        offset_(offset),
        bytes_(count * DTypeSize(dtype) + offset + 1, 0xee) {}

  void* data() { return bytes_.data() + offset_; }
  size_t byte_count() const { return count_ * DTypeSize(dtype_); }

  void Set(size_t i, double value) {
    switch (dtype_) {
      case DType::kFloat32:
        return Store(i, static_cast<float>(value));
      case DType::kFloat64:
        return Store(i, value);
      case DType::kBFloat16:
        return Store(
            i, static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
      case DType::kInt64:
        return Store(i, static_cast<int64_t>(value));
      case DType::kUInt8:
        return Store(i, static_cast<uint8_t>(value));
    }
  }
  double Get(size_t i) const {
    switch (dtype_) {
      case DType::kFloat32:
        return Load<float>(i);
      case DType::kFloat64:
        return Load<double>(i);
      case DType::kBFloat16:
        return std::bit_cast<float>(static_cast<uint32_t>(Load<uint16_t>(i)) << 16);
      case DType::kInt64:
        return static_cast<double>(Load<int64_t>(i));
      case DType::kUInt8:
        return Load<uint8_t>(i);
    }
    return 0;
  }
  void Fill(int rank, size_t shift = 0) {
    for (size_t i = 0; i < count_; ++i) Set(i, Stored(dtype_, rank, i + shift));
  }
  // Nobody wrote behind the end.
  bool EndIntact() const { return bytes_.back() == 0xee; }

 private:
  template <typename T>
  void Store(size_t i, T value) {
    std::memcpy(bytes_.data() + offset_ + i * sizeof(T), &value, sizeof(T));
  }
  template <typename T>
  T Load(size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset_ + i * sizeof(T), sizeof(T));
    return value;
  }

  DType dtype_;
  size_t count_;
  size_t offset_;
  std::vector<uint8_t> bytes_;
};

}  // namespace weft::testing
