#include "tests/support/golden.h"

#include <string_view>

#include "cluster/base/hash.h"

namespace weft::testing {

double GoldenUniform(const std::string& name, uint64_t i) {
  const uint64_t z = Mix64(Fnv1a64(name) + (i + 1) * 0x9E3779B97F4A7C15ULL);
  return static_cast<double>(z >> 11) * 0x1p-53;
}

double GoldenParam(const ParamSpec& spec, uint64_t i) {
  const double value = 0.1 * (2 * GoldenUniform(spec.name, i) - 1);
  const bool gain = spec.shape.size() == 1 && std::string_view(spec.name).ends_with(".weight");
  return gain ? value + 1 : value;
}

void GoldenFill(const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
  for (int64_t i = begin; i < end; ++i) {
    *out++ =
        spec.name == "logit_scale" ? spec.init.value : GoldenParam(spec, static_cast<uint64_t>(i));
  }
}

std::vector<double> GoldenInput(const std::string& key, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(2 * GoldenUniform("in:" + key, static_cast<uint64_t>(i)) - 1);
  return values;
}

}  // namespace weft::testing
