#include "parallel/tensor/mappings.h"

#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "parallel/tensor/collectives.h"
#include "parallel/tensor/saved.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What each direction does with rows.
enum class Move { kKeep, kSum, kAllRows, kOwnRows, kOwnRowsOfSum };

struct Mapping {
  Move forward = Move::kKeep;
  Move backward = Move::kKeep;
  // Of all ranks together.
  int64_t rows = 0;
  TensorAxis axis;
  std::string name;
};

at::Tensor Apply(Move move, const at::Tensor& x, const Mapping& mapping, const char* direction) {
  const std::string name = mapping.name + direction;
  switch (move) {
    case Move::kKeep:
      return x;
    case Move::kSum:
      return SumOverTensor(x, mapping.axis, name);
    case Move::kAllRows:
      return AllRowsOfOwn(x, mapping.rows, mapping.axis, name);
    case Move::kOwnRows:
      return OwnRowsOf(x, mapping.axis);
    case Move::kOwnRowsOfSum:
      return OwnRowsOfSum(x, mapping.axis, name);
  }
  return x;
}

struct MappingFunction : torch::autograd::Function<MappingFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Mapping& mapping) {
    ctx->saved_data["mapping"] = Save(mapping);
    return Apply(mapping.forward, mapping.forward == Move::kKeep ? x.view_as(x) : x, mapping,
                 ".forward");
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& mapping = Saved<Mapping>(ctx->saved_data["mapping"]);
    return {Apply(mapping.backward, grads[0], mapping, ".backward"), {}};
  }
};

at::Tensor Run(const at::Tensor& x, Mapping mapping) {
  return mapping.axis.size == 1 ? x : MappingFunction::apply(x, mapping);
}

}  // namespace

at::Tensor CopyToTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return Run(x, {Move::kKeep, Move::kSum, 0, axis, name});
}

at::Tensor ReduceFromTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return Run(x, {Move::kSum, Move::kKeep, 0, axis, name});
}

at::Tensor GatherRows(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                      const std::string& name) {
  return Run(own, {Move::kAllRows, Move::kOwnRowsOfSum, rows, axis, name});
}

at::Tensor ScatterRows(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return Run(x, {Move::kOwnRowsOfSum, Move::kAllRows, x.size(0), axis, name});
}

at::Tensor SplitRows(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return Run(x, {Move::kOwnRows, Move::kAllRows, x.size(0), axis, name});
}

at::Tensor JoinRows(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                    const std::string& name) {
  return Run(own, {Move::kAllRows, Move::kOwnRows, rows, axis, name});
}

}  // namespace weft
