// One micro-batch of one slot as named fields: what a loader makes and a model's first blocks read by name.
//
// Thread rule: values; different rows may be written by different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/logging.h"

namespace weft {

enum class FieldType : uint8_t { kU8, kI32, kF32, kBf16 };

inline size_t FieldTypeBytes(FieldType type) {
  return type == FieldType::kU8 ? 1 : type == FieldType::kBf16 ? 2 : 4;
}

// The label of a position that no loss looks at.
constexpr int32_t kIgnoreLabel = -100;

// What a field is for every micro-batch: its dimensions after the first one, which counts samples.
struct FieldSpec {
  std::string name;
  FieldType type = FieldType::kU8;
  std::vector<int64_t> dims;

  size_t elements_per_row() const {
    size_t count = 1;
    for (const int64_t dim : dims) count *= static_cast<size_t>(dim);
    return count;
  }
  size_t bytes_per_row() const { return elements_per_row() * FieldTypeBytes(type); }
};

struct Field {
  FieldSpec spec;
  // Rows one after the other, in the machine's byte order.
  std::vector<uint8_t> bytes;

  uint8_t* U8(size_t row) {
    WEFT_CHECK(spec.type == FieldType::kU8) << spec.name;
    return bytes.data() + row * spec.bytes_per_row();
  }
  int32_t* I32(size_t row) {
    WEFT_CHECK(spec.type == FieldType::kI32) << spec.name;
    return reinterpret_cast<int32_t*>(bytes.data() + row * spec.bytes_per_row());
  }
  // Whatever the type.
  uint8_t* Row(size_t row) { return bytes.data() + row * spec.bytes_per_row(); }
};

struct MicroBatch {
  int64_t step = 0;
  int slot = 0;
  int micro_batch = 0;
  std::vector<int64_t> sample_ids;  // b
  // Labels of each sample that a loss counts; 0 where the family has no labels. Known to every consumer, whatever it reads.
  std::vector<int32_t> targets;  // b
  // Those that the consumer asked for, in the family's order.
  std::vector<Field> fields;

  // nullptr: not asked for.
  Field* Find(std::string_view name) {
    for (Field& field : fields) {
      if (field.spec.name == name) return &field;
    }
    return nullptr;
  }
  const Field* Find(std::string_view name) const {
    return const_cast<MicroBatch*>(this)->Find(name);
  }
};

}  // namespace weft
