// How a family's spec writes down the parameters of one block: by layer, with what tensor and sequence parallelism do to
// each. A column-parallel layer splits its outputs and their bias; a row-parallel layer splits its inputs, and its bias is
// added once, after the sum, to a rank's own rows.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/spec/model_spec.h"

namespace weft {

// How a linear layer starts; without `bias` it has none.
struct LinearInit {
  Init weight;
  std::optional<Init> bias;
};

// Where a norm works under sequence parallelism.
enum class NormRows { kAll, kOwn };

class ParamList {
 public:
  // Whether the parameter is in the group with weight decay.
  using DecayRule = bool (*)(const ParamSpec&);

  // REQUIRES: `block` outlives this and has its name.
  ParamList(BlockSpec* block, DecayRule decays) : block_(block), decays_(decays) {}

  // Replicated over tp. The reference ends with the next call.
  ParamSpec& Add(const std::string& name, std::vector<int64_t> shape, Init init);
  // NAME.weight and NAME.bias.
  void LayerNorm(const std::string& name, int64_t width, NormRows rows);
  // NAME.weight.
  void RmsNorm(const std::string& name, int64_t width, NormRows rows);
  // NAME.weight [out, in] and NAME.bias.
  void Linear(const std::string& name, int64_t out, int64_t in, const LinearInit& init);
  // The same, split over tp in whole `units` (0: elements).
  void Column(const std::string& name, int64_t out, int64_t in, int64_t units,
              const LinearInit& init);
  void Row(const std::string& name, int64_t out, int64_t in, int64_t units, const LinearInit& init);

 private:
  BlockSpec* block_;
  DecayRule decays_;
};

}  // namespace weft
