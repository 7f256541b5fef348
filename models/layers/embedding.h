// Rows of a table by id. The backward adds rows to main_grad one after the other, in the order of the ids: no dense V x d
// gradient, no atomics.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/engine/parameter.h"

namespace weft {

class Embedding {
 public:
  explicit Embedding(Parameter* table) : table_(table) { table_->UseDirectGradient(); }

  // ids: [...] integers -> [..., width]. REQUIRES: 0 <= ids < rows (LibTorch's exception otherwise).
  at::Tensor operator()(const at::Tensor& ids) const;

 private:
  Parameter* table_;
};

}  // namespace weft
