// The weights and inputs of golden values: bits that every implementation can make without sharing a generator. Each
// element is a splitmix64 hash of the tensor's name and the element's index.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/spec/param_spec.h"

namespace weft::testing {

// Uniform in [0, 1), element `i` of the tensor `name`.
double GoldenUniform(const std::string& name, uint64_t i);
// 0.1 * (2u - 1), plus 1 for norm gains (1-D, name ends in ".weight").
double GoldenParam(const ParamSpec& spec, uint64_t i);
// ParameterStore::Fill; logit_scale keeps its init.
void GoldenFill(const ParamSpec& spec, int64_t begin, int64_t end, double* out);
// FIN(key): 2u - 1.
std::vector<double> GoldenInput(const std::string& key, int64_t count);

}  // namespace weft::testing
