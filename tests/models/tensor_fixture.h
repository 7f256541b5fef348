// Parameters of a tensor-parallel rank in tests of layers and blocks: a store that holds the rank's slices, and gradients
// summed over the ranks as the specs say. Ranks are threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "parallel/context.h"
#include "parallel/engine/block.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft::testing {

// Numbers that look random, without a generator.
at::Tensor Numbers(std::vector<int64_t> sizes, double phase, at::ScalarType type = at::kDouble);

// ||a - b|| / ||b||.
double RelativeError(const at::Tensor& a, const at::Tensor& b);

class TensorRank {
 public:
  // Golden fill; `gain` multiplies matrices.
  TensorRank(const std::vector<ParamSpec>& specs, const TensorAxis& axis,
             Precision precision = FP64, double gain = 1);

  // The slice of a whole tensor that this rank holds.
  at::Tensor SliceOf(const ParamSpec& spec, const at::Tensor& whole) const;
  // Backward of `outputs` with `grads`: main_grads are added to, the gradients of `inputs` returned.
  std::vector<at::Tensor> Backward(const std::vector<at::Tensor>& outputs,
                                   const std::vector<at::Tensor>& inputs,
                                   const std::vector<at::Tensor>& grads);
  // This rank's slices of main_grad, partial ones summed over the ranks that share them. A collective.
  std::map<std::string, at::Tensor> Gradients();

  TensorAxis axis;
  ParallelContext context;
  std::vector<ParamSpec> specs;
  ParameterStore store;
};

// The axis of a rank of a ThreadWorld.
TensorAxis AxisOf(Communicator& comm, bool sequence);

}  // namespace weft::testing
