#include "models/layers/device_kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "cluster/base/logging.h"

TORCH_LIBRARY(weft, library) {
  library.def("dropout(Tensor x, Tensor(a!) y, int[] numbers, float scale) -> ()");
  library.def("add_rows(Tensor(a!) table, Tensor sorted, Tensor order, Tensor rows) -> ()");
}

namespace weft::device {
namespace {

template <typename Op>
c10::TypedOperatorHandle<Op> Find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Op>();
}

}  // namespace

void Dropout(const at::Tensor& x, const at::Tensor& y, int64_t runs,
             const body::DropoutPlan& plan) {
  const int64_t numbers[] = {static_cast<int64_t>(plan.key),
                             static_cast<int64_t>(plan.threshold),
                             plan.length,
                             plan.first_row,
                             plan.first_run,
                             plan.runs_a_row,
                             plan.inner,
                             plan.inner_stride,
                             plan.outer_stride,
                             plan.offset,
                             runs};
  Find<DropoutOp>("weft::dropout").call(x, y, numbers, plan.scale);
}

body::DropoutPlan PlanOf(at::IntArrayRef numbers, double scale) {
  WEFT_CHECK_EQ(numbers.size(), 11U);
  return {static_cast<uint64_t>(numbers[0]),
          static_cast<uint32_t>(numbers[1]),
          scale,
          numbers[2],
          numbers[3],
          numbers[4],
          numbers[5],
          numbers[6],
          numbers[7],
          numbers[8],
          numbers[9]};
}

int64_t RunsOf(at::IntArrayRef numbers) { return numbers.back(); }

void AddRows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
             const at::Tensor& rows) {
  Find<AddRowsOp>("weft::add_rows").call(table, sorted, order, rows);
}

}  // namespace weft::device
