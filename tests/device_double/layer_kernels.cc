// models/layers/device_kernels.h on the double: the bodies that CUDA's kernels have, thread by thread.
#include <c10/util/Exception.h>
#include <torch/library.h>

#include "models/layers/device_kernels.h"
#include "tests/device_double/bytes.h"
#include "tests/device_double/guard.h"

namespace weft::testing {

bool InstallLayerKernels() { return true; }

namespace {

// The current stream's work is done, and so is everybody else's with these.
void Begin(const std::string& what, std::initializer_list<at::Tensor> reads,
           const at::Tensor& written) {
  CurrentStream(written.device().index()).synchronize();
  for (const at::Tensor& tensor : reads) NoteUse(what, tensor, false);
  NoteUse(what, written, true);
}

template <typename T, typename Wide>
void DropoutThreads(const at::Tensor& x, const at::Tensor& y, int64_t runs,
                    const body::DropoutPlan& plan) {
  const auto* in = static_cast<const T*>(Alias(x).const_data_ptr());
  auto* out = static_cast<T*>(Alias(y).data_ptr());
  for (int64_t thread = 0; thread < runs * body::ThreadsPerRun(plan); ++thread)
    body::DropoutThread<T, Wide>(in, out, plan, thread);
}

void Dropout(const at::Tensor& x, const at::Tensor& y, at::IntArrayRef numbers, double scale) {
  Begin("keyed dropout", {x}, y);
  const body::DropoutPlan plan = device::PlanOf(numbers, scale);
  const int64_t runs = device::RunsOf(numbers);
  switch (x.scalar_type()) {
    case at::kDouble:
      return DropoutThreads<double, double>(x, y, runs, plan);
    case at::kFloat:
      return DropoutThreads<float, float>(x, y, runs, plan);
    default:
      TORCH_CHECK(x.scalar_type() == at::kBFloat16, "dropout of ", x.scalar_type());
      return DropoutThreads<body::BFloat16, float>(x, y, runs, plan);
  }
}

template <typename T>
void AddRowsThreads(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
                    const at::Tensor& rows) {
  const int64_t width = table.size(1);
  auto* sums = Alias(table).data_ptr<T>();
  const auto* ids = Alias(sorted).const_data_ptr<int64_t>();
  const auto* places = Alias(order).const_data_ptr<int64_t>();
  const auto* add = Alias(rows).const_data_ptr<T>();
  for (int64_t thread = 0; thread < sorted.numel() * width; ++thread)
    body::AddRowsThread(sums, ids, places, add, sorted.numel(), width, thread);
}

void AddRows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
             const at::Tensor& rows) {
  Begin("embedding gradient", {sorted, order, rows}, table);
  if (table.scalar_type() == at::kDouble) return AddRowsThreads<double>(table, sorted, order, rows);
  AddRowsThreads<float>(table, sorted, order, rows);
}

TORCH_LIBRARY_IMPL(weft, PrivateUse1, library) {
  library.impl("dropout", &Dropout);
  library.impl("add_rows", &AddRows);
}

}  // namespace
}  // namespace weft::testing
