// Collectives of the tp axis on tensors, without a tape. On one rank each returns its argument. Rows are the first
// dimension; a rank's own rows of n are EvenPart(n, size, rank): they may be fewer than another's, or none.
//
// Sums are taken in rank order (communicator.h). Every rank calls with the same `name` and the same sizes.
// Errors: throws CommError. Thread rule: the communicator's.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "models/spec/tp_slice.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

// This rank's rows of `rows`.
inline IndexRange OwnRows(int64_t rows, const TensorAxis& axis) {
  return EvenPart(rows, axis.size, axis.rank);
}

// The sum, or the largest, over ranks: a new tensor.
at::Tensor SumOverTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name);
at::Tensor MaxOverTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name);

// All `rows` rows from each rank's own, and this rank's own rows of the sum over ranks: new tensors.
at::Tensor AllRowsOfOwn(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                        const std::string& name);
at::Tensor OwnRowsOfSum(const at::Tensor& x, const TensorAxis& axis, const std::string& name);

// A copy, so that a rank that keeps its rows does not keep the others'.
at::Tensor OwnRowsOf(const at::Tensor& x, const TensorAxis& axis);

}  // namespace weft
