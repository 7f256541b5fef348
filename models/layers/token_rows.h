// The rows (sample, token) of a micro-batch between tensor-parallel layers: all of them on every rank, as [samples, tokens,
// width], or, with sequence parallelism, a rank's own, as [own, width]. SplitTokens and JoinTokens are the borders.
//
// Errors: throws CommError.
// Thread rule: a value.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "models/layers/dropout.h"
#include "parallel/tensor/collectives.h"
#include "parallel/tensor/mappings.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

struct TokenRows {
  int64_t samples = 0;
  int64_t tokens = 0;
  // This rank's: all, or a part under sequence parallelism.
  IndexRange own;

  TokenRows(int64_t num_samples, int64_t num_tokens, const TensorAxis& axis)
      : samples(num_samples), tokens(num_tokens), own{0, samples * tokens} {
    if (axis.sequence) own = OwnRows(samples * tokens, axis);
  }
  int64_t all() const { return samples * tokens; }
  // Where the elements of a tensor of own rows lie in a dropout site.
  ElementRuns Runs(const MicroBatchContext& context, int64_t width) const {
    return TokenRuns(context, tokens, width, own.offset);
  }
};

// [samples, tokens, width] -> a rank's own rows, with sequence parallelism; else x.
inline at::Tensor SplitTokens(const at::Tensor& x, const TensorAxis& axis,
                              const std::string& name) {
  return axis.sequence ? SplitRows(x.flatten(0, 1), axis, name) : x;
}
// And back, to all on every rank.
inline at::Tensor JoinTokens(const at::Tensor& x, int64_t samples, int64_t tokens,
                             const TensorAxis& axis, const std::string& name) {
  if (!axis.sequence) return x;
  return JoinRows(x, samples * tokens, axis, name).view({samples, tokens, x.size(1)});
}

}  // namespace weft
