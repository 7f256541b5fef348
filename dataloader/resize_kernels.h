// Inner loops of the resize: integers only, so that every instruction set gives the same bytes.
//
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft {

// Weights have this many fraction bits: 8 bits of data and 2 bits of overshoot fit beside them in 32.
constexpr int kWeightBits = 32 - 8 - 2;

// Narrow sums have 16 bits, 5 of them fractions, of products that are cut each for itself; half a unit a product is added
// at the start. At most 0.2 levels off, and a fraction of the time.
constexpr int kNarrowBits = 14;
constexpr int kNarrowSumBits = 5;

// Output i of an axis = sum over j < counts[i] of values[i * stride + j] * input[firsts[i] + j].
struct AxisWeights {
  const int* firsts = nullptr;
  const int* counts = nullptr;
  const int32_t* values = nullptr;
  const int16_t* narrow = nullptr;  // in place of values, if set
  size_t stride = 0;
  size_t size = 0;
};

// Rows whose columns are resized together.
constexpr size_t kTileRows = 16;

// Turns `count` columns of 16 rows into `count` runs of 16 bytes. Rows behind num_rows repeat the last one.
void TransposeIn(const uint8_t* rows, size_t stride, size_t num_rows, size_t count, uint8_t* tile);
// And back: only num_rows rows are written.
void TransposeOut(const uint8_t* tile, size_t count, size_t num_rows, uint8_t* rows, size_t stride);

// One tile: weights.size runs of 16 bytes from runs of 16 bytes, the first of which is input `origin`. With `flip` the last
// run comes first.
void ResizeTile(const uint8_t* tile, int origin, const AxisWeights& weights, bool flip,
                uint8_t* out);

// Output row i of the vertical pass over rows of `width` bytes, the first of which is input `origin`.
void ResizeColumns(const uint8_t* rows, size_t width, int origin, const AxisWeights& weights,
                   size_t i, uint8_t* out);

// The same with narrow weights, on bytes that Widen has made ready.
void Widen(const uint8_t* bytes, size_t count, int16_t* wide);
void ResizeTileNarrow(const int16_t* tile, int origin, const AxisWeights& weights, bool flip,
                      uint8_t* out);
void ResizeColumnsNarrow(const int16_t* rows, size_t width, int origin, const AxisWeights& weights,
                         size_t i, uint8_t* out);

}  // namespace weft
