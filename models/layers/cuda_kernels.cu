#include "models/layers/cuda_kernels.h"

#include <cuda_runtime_api.h>

namespace weft::cuda {
namespace {

constexpr int kThreads = 256;

__device__ int64_t ThreadNumber() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

unsigned int BlocksFor(int64_t threads) {
  return static_cast<unsigned int>((threads + kThreads - 1) / kThreads);
}

const char* LaunchError() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <typename T, typename Wide>
__global__ void Dropout(const T* x, T* y, body::DropoutPlan plan, int64_t threads) {
  const int64_t thread = ThreadNumber();
  if (thread < threads) body::DropoutThread<T, Wide>(x, y, plan, thread);
}

template <typename T, typename Wide>
const char* LaunchDropoutOf(const T* x, T* y, int64_t runs, const body::DropoutPlan& plan,
                            void* stream) {
  const int64_t threads = runs * body::ThreadsPerRun(plan);
  Dropout<T, Wide>
      <<<BlocksFor(threads), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(x, y, plan, threads);
  return LaunchError();
}

template <typename T>
__global__ void AddRows(T* table, const int64_t* sorted, const int64_t* order, const T* rows,
                        int64_t count, int64_t width) {
  const int64_t thread = ThreadNumber();
  if (thread < count * width) body::AddRowsThread(table, sorted, order, rows, count, width, thread);
}

template <typename T>
const char* LaunchAddRowsOf(T* table, const int64_t* sorted, const int64_t* order, const T* rows,
                            int64_t count, int64_t width, void* stream) {
  AddRows<<<BlocksFor(count * width), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      table, sorted, order, rows, count, width);
  return LaunchError();
}

}  // namespace

const char* LaunchDropout(const float* x, float* y, int64_t runs, const body::DropoutPlan& plan,
                          void* stream) {
  return LaunchDropoutOf<float, float>(x, y, runs, plan, stream);
}
const char* LaunchDropout(const double* x, double* y, int64_t runs, const body::DropoutPlan& plan,
                          void* stream) {
  return LaunchDropoutOf<double, double>(x, y, runs, plan, stream);
}
const char* LaunchDropout(const body::BFloat16* x, body::BFloat16* y, int64_t runs,
                          const body::DropoutPlan& plan, void* stream) {
  return LaunchDropoutOf<body::BFloat16, float>(x, y, runs, plan, stream);
}

const char* LaunchAddRows(float* table, const int64_t* sorted, const int64_t* order,
                          const float* rows, int64_t count, int64_t width, void* stream) {
  return LaunchAddRowsOf(table, sorted, order, rows, count, width, stream);
}
const char* LaunchAddRows(double* table, const int64_t* sorted, const int64_t* order,
                          const double* rows, int64_t count, int64_t width, void* stream) {
  return LaunchAddRowsOf(table, sorted, order, rows, count, width, stream);
}

}  // namespace weft::cuda
