// How many elements parameters and groups take in the store's flat buffers; for the files of parameter_store.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "parallel/engine/parameter_store.h"

namespace weft {

inline int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Elements of the local tensor.
inline int64_t LocalElements(const Parameter& parameter) {
  int64_t total = 0;
  for (const TensorBox& box : parameter.boxes) total += box.NumElements();
  return total;
}

// Elements that the group's parameters take, gaps included.
inline int64_t UsedSize(const ParameterGroup& group) {
  if (group.parameters.empty()) return 0;
  const Parameter& last = *group.parameters.back();
  return RoundUp(last.offset + LocalElements(last), ParameterStore::kBlock);
}

}  // namespace weft
