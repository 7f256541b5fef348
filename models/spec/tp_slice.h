// What of a parameter a tensor-parallel rank holds, as boxes of the global tensor. Init, checkpoints and the exchange of
// gradients read slices from here. Pure integers.
//
// Each of a parameter's sections is split by itself (tp_sections: fused q | k | v), in whole units (tp_units: heads), so
// a rank's slice is one box a section. Splitting by heads follows Megatron-LM (Shoeybi et al. 2019); where there are
// fewer units than ranks (kv heads of grouped-query attention), neighbouring ranks hold the same slice.
//
// Errors: a split that CheckTpSplit refuses is a bug here (WEFT_CHECK). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/base/status.h"
#include "models/spec/param_spec.h"

namespace weft {

// Part of a global tensor: so many elements of each dimension, from an offset.
struct TensorBox {
  std::vector<int64_t> offsets;
  std::vector<int64_t> lengths;

  int64_t NumElements() const;
  bool operator==(const TensorBox&) const = default;
};

// Elements [offset, offset + length) of one dimension.
struct IndexRange {
  int64_t offset = 0;
  int64_t length = 0;

  int64_t end() const { return offset + length; }
  bool operator==(const IndexRange&) const = default;
};

// Part `index` of `extent` elements in `parts` parts, as even as they go: the first `extent % parts` have one more.
// REQUIRES: 0 <= index < parts.
IndexRange EvenPart(int64_t extent, int parts, int index);

// What rank `tp_rank` holds of a dimension of `extent` elements in `units` indivisible units (0: elements).
// REQUIRES: CheckTpSplit is ok.
IndexRange TpRange(int64_t extent, int64_t units, int tp, int tp_rank);

// Whether the parameter can be split over `tp` ranks. InvalidArgument: the rule it breaks, with the numbers.
Status CheckTpSplit(const ParamSpec& param, int tp);

// The local tensor is these boxes, one after the other along tp_dim; a replicated parameter is one box, all of it.
std::vector<TensorBox> TpBoxes(const ParamSpec& param, int tp, int tp_rank);
std::vector<int64_t> LocalShape(const ParamSpec& param, int tp, int tp_rank);

// Ranks that hold the same slice: 1, tp of a replicated parameter, or tp / tp_units where units are repeated. They are
// neighbours: ranks [k * replicas, (k + 1) * replicas).
int TpReplicas(const ParamSpec& param, int tp);

}  // namespace weft
