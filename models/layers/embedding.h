// Rows of a table by id. The backward adds rows to main_grad one after the other, in the order of the ids: no dense V x d
// gradient, no atomics. The table's row of padding (ParamSpec) gets none.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/engine/parameter.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

class Embedding {
 public:
  explicit Embedding(Parameter* table) : table_(table) { table_->UseDirectGradient(); }

  // ids: [...] integers -> [..., width]. REQUIRES: 0 <= ids < rows (LibTorch's exception otherwise).
  at::Tensor operator()(const at::Tensor& ids) const;

 private:
  Parameter* table_;
};

// A table whose rows are split over ranks, unevenly too (Shoeybi et al. 2019): each rank has the rows of its own ids, the
// sum over ranks has all. Ids outside the table give zero rows, which nobody reads or trains: placeholders of images.
//
// Errors: throws CommError.
class VocabEmbedding {
 public:
  VocabEmbedding(Parameter* table, const TensorAxis& axis);

  // ids: [...] integers, the same on every rank -> [..., width], replicated.
  at::Tensor operator()(const at::Tensor& ids) const;

 private:
  Parameter* table_;
  TensorAxis axis_;
};

}  // namespace weft
