#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include "models/layers/cuda_kernels.h"
#include "models/layers/device_kernels.h"

namespace weft::device {
namespace {

// The tensor's device is the current one for the launch.
template <typename Launch>
void OnDeviceOf(const at::Tensor& tensor, const char* what, const Launch& launch) {
  const c10::cuda::CUDAGuard guard(tensor.device());
  void* const stream = c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
  const char* const error = launch(stream);
  TORCH_CHECK(error == nullptr, what, ": ", error == nullptr ? "" : error);
}

void CudaDropout(const at::Tensor& x, const at::Tensor& y, at::IntArrayRef numbers, double scale) {
  const body::DropoutPlan plan = PlanOf(numbers, scale);
  const auto launch = [&]<typename T>(T* out) {
    OnDeviceOf(x, "keyed dropout", [&](void* stream) {
      return cuda::LaunchDropout(static_cast<const T*>(x.const_data_ptr()), out, RunsOf(numbers),
                                 plan, stream);
    });
  };
  switch (x.scalar_type()) {
    case at::kDouble:
      return launch(y.data_ptr<double>());
    case at::kFloat:
      return launch(y.data_ptr<float>());
    default:
      TORCH_CHECK(x.scalar_type() == at::kBFloat16, "dropout of ", x.scalar_type());
      return launch(static_cast<body::BFloat16*>(y.data_ptr()));
  }
}

void CudaAddRows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
                 const at::Tensor& rows) {
  const auto launch = [&]<typename T>(T* sum) {
    OnDeviceOf(table, "adding rows to an embedding's gradient", [&](void* stream) {
      return cuda::LaunchAddRows(sum, sorted.const_data_ptr<int64_t>(),
                                 order.const_data_ptr<int64_t>(), rows.const_data_ptr<T>(),
                                 sorted.numel(), table.size(1), stream);
    });
  };
  if (table.scalar_type() == at::kDouble) return launch(table.data_ptr<double>());
  launch(table.data_ptr<float>());
}

}  // namespace
}  // namespace weft::device

TORCH_LIBRARY_IMPL(weft, CUDA, library) {
  library.impl("dropout", &weft::device::CudaDropout);
  library.impl("add_rows", &weft::device::CudaAddRows);
}
