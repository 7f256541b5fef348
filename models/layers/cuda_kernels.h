// Launches of kernel_bodies.h on CUDA. Pointers are device memory; `stream` is a cudaStream_t.
//
// Errors: those of CUDA, as its text; null if the kernel was launched. Thread rule: any thread.
#pragma once

#include "models/layers/kernel_bodies.h"

namespace weft::cuda {

const char* LaunchDropout(const float* x, float* y, int64_t runs, const body::DropoutPlan& plan,
                          void* stream);
const char* LaunchDropout(const double* x, double* y, int64_t runs, const body::DropoutPlan& plan,
                          void* stream);
const char* LaunchDropout(const body::BFloat16* x, body::BFloat16* y, int64_t runs,
                          const body::DropoutPlan& plan, void* stream);

const char* LaunchAddRows(float* table, const int64_t* sorted, const int64_t* order,
                          const float* rows, int64_t count, int64_t width, void* stream);
const char* LaunchAddRows(double* table, const int64_t* sorted, const int64_t* order,
                          const double* rows, int64_t count, int64_t width, void* stream);

}  // namespace weft::cuda
