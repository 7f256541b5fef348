// What layers want of a device other than the CPU and LibTorch does not have, on the device's current stream. They are
// operators of LibTorch's dispatcher, "weft::dropout" and "weft::add_rows"; weft_cuda_kernels registers CUDA's.
//
// Errors: throws c10::Error, with the device's name where nobody registered it, else with the device's own text.
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/kernel_bodies.h"

namespace weft::device {

// y = x without what `plan` drops, for `runs` runs. Both contiguous, of one type: fp32, fp64 or bf16.
void Dropout(const at::Tensor& x, const at::Tensor& y, int64_t runs, const body::DropoutPlan& plan);

// body::AddRowsThread for all: table [V, d], sorted and order [n], rows [n, d] of the table's type (fp32 or fp64).
void AddRows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
             const at::Tensor& rows);

// ---- for who registers them: "dropout" and "add_rows" have these types, with the plan and `runs` as numbers.
using DropoutOp = void(const at::Tensor& x, const at::Tensor& y, at::IntArrayRef numbers,
                       double scale);
using AddRowsOp = void(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order,
                       const at::Tensor& rows);
body::DropoutPlan PlanOf(at::IntArrayRef numbers, double scale);
int64_t RunsOf(at::IntArrayRef numbers);

}  // namespace weft::device
