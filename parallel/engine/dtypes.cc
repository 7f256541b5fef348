#include "parallel/engine/dtypes.h"

#include "cluster/base/logging.h"

namespace weft {

at::ScalarType ComputeType(Precision precision) {
  switch (precision) {
    case FP32:
      return at::kFloat;
    case BF16:
      return at::kBFloat16;
    case FP64:
      return at::kDouble;
  }
  WEFT_CHECK(false) << "precision " << precision;
  return at::kFloat;
}

at::ScalarType AccumulateType(Precision precision) {
  return precision == FP64 ? at::kDouble : at::kFloat;
}

DType ToDType(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kDouble:
      return DType::kFloat64;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kLong:
      return DType::kInt64;
    case at::kByte:
      return DType::kUInt8;
    default:
      WEFT_CHECK(false) << "no communicator type for " << c10::toString(type);
      return DType::kFloat32;
  }
}

const char* CheckpointTypeName(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "f32";
    case at::kDouble:
      return "f64";
    case at::kBFloat16:
      return "bf16";
    default:
      WEFT_CHECK(false) << "no checkpoint type for " << c10::toString(type);
      return "";
  }
}

}  // namespace weft
