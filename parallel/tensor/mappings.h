// The borders of tensor-parallel regions as autograd Functions (f and g of Shoeybi et al. 2019; g-bar of Korthikanti et al.
// 2022). On one rank each is the identity. Rows are the first dimension, split as evenly as they go: OwnRows.
//
//                   forward            backward            between
//   CopyToTensor    identity           sum over ranks      replicated -> column-parallel
//   ReduceFromTensor sum over ranks    identity            row-parallel -> replicated
//   GatherRows      all rows           own rows of the sum own rows -> column-parallel
//   ScatterRows     own rows of the sum all rows           row-parallel -> own rows
//   SplitRows       own rows           all rows            replicated -> own rows
//   JoinRows        all rows           own rows            own rows -> replicated
//
// A collective is named NAME.forward or NAME.backward; `name` is the same on every rank.
// Errors: throws CommError. Thread rule: the communicator's, for the backward too.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "parallel/tensor/tensor_axis.h"

namespace weft {

at::Tensor CopyToTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name);
at::Tensor ReduceFromTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name);
// `rows` of all ranks together.
at::Tensor GatherRows(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                      const std::string& name);
at::Tensor ScatterRows(const at::Tensor& x, const TensorAxis& axis, const std::string& name);
at::Tensor SplitRows(const at::Tensor& x, const TensorAxis& axis, const std::string& name);
at::Tensor JoinRows(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                    const std::string& name);

}  // namespace weft
