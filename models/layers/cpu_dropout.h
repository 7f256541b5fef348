// Dropout of a run of elements with keyed draws: 16 bits an element from Philox4x32-10, eight elements a block. Element e
// of row r takes half e % 2 (low first) of word e % 8 / 2 of the block with the counter (r, e / 8), so that its draw does
// not depend on where the run begins. Compiled for several CPU generations; draws are integers, equal on all.
//
// Thread rule: pure functions on the caller's memory.
#pragma once

#include <cstdint>

#include "models/layers/cpu_kernels.h"

namespace weft::cpu {

struct DropoutDraw {
  uint64_t key = 0;
  // An element is dropped if its 16 bits are below.
  uint32_t threshold = 0;
  // Of what stays.
  double scale = 1;
};

// y[i] = 0 or x[i] scale, for elements first, first + 1, ... of `row`. y may be x.
void DropoutRun(const float* x, float* y, int64_t n, const DropoutDraw& draw, uint64_t row,
                uint64_t first);
void DropoutRun(const double* x, double* y, int64_t n, const DropoutDraw& draw, uint64_t row,
                uint64_t first);
void DropoutRun(const BFloat16Bits* x, BFloat16Bits* y, int64_t n, const DropoutDraw& draw,
                uint64_t row, uint64_t first);

}  // namespace weft::cpu
