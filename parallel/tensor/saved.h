// C++ values in the context of an autograd Function: they live as long as the graph, whatever becomes of the layer that
// made them.
//
// Thread rule: values.
#pragma once

#include <ATen/core/ivalue.h>

#include <utility>

namespace weft {

template <typename T>
struct SavedValue : torch::CustomClassHolder {
  explicit SavedValue(T v) : value(std::move(v)) {}
  T value;
};

template <typename T>
c10::IValue Save(T value) {
  return c10::IValue::make_capsule(c10::make_intrusive<SavedValue<T>>(std::move(value)));
}

// REQUIRES: Save<T> made it.
template <typename T>
const T& Saved(const c10::IValue& saved) {
  return static_cast<const SavedValue<T>*>(saved.toCapsule().get())->value;
}

}  // namespace weft
