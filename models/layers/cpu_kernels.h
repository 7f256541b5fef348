// Element-wise loops that LibTorch would run as several passes over memory. fp32 and bf16 (as its 16 bits); arithmetic in
// fp32. Compiled for several CPU generations; the best one is taken at start, so bits depend on the CPU's capability only.
//
// Thread rule: pure functions on the caller's memory; they split nothing over threads themselves.
#pragma once

#include <cstdint>

namespace weft::cpu {

using BFloat16Bits = uint16_t;

// y = x sigmoid(1.702 x).
void QuickGeluForward(const float* x, float* y, int64_t n);
void QuickGeluForward(const BFloat16Bits* x, BFloat16Bits* y, int64_t n);
// dx = dy d/dx (x sigmoid(1.702 x)).
void QuickGeluBackward(const float* x, const float* dy, float* dx, int64_t n);
void QuickGeluBackward(const BFloat16Bits* x, const BFloat16Bits* dy, BFloat16Bits* dx, int64_t n);

// sum[c] += the sum over rows of x[row][c], rows from first to last.
void AddColumnSums(const float* x, int64_t rows, int64_t columns, float* sum);
void AddColumnSums(const BFloat16Bits* x, int64_t rows, int64_t columns, float* sum);

// The backward of softmax(scale * scores) by rows, with the probabilities on the way. `rows` rows of `columns`; scores become
// probabilities, and d_probabilities become the gradient of the scores before scaling. causal: row i (mod columns) has
// the columns 0 ... i only, the others become 0.
void SoftmaxBackward(float* scores, float* d_probabilities, int64_t rows, int64_t columns,
                     float scale, bool causal);
void SoftmaxBackward(BFloat16Bits* scores, BFloat16Bits* d_probabilities, int64_t rows,
                     int64_t columns, float scale, bool causal);

}  // namespace weft::cpu
