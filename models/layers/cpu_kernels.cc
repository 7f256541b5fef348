#include "models/layers/cpu_kernels.h"

#include <algorithm>
#include <bit>

#include "models/layers/cpu_clones.h"

namespace weft::cpu {
namespace {

constexpr float kSlope = 1.702f;

// exp(x) = 2^n exp(r), |r| <= ln 2 / 2, exp(r) by its series to r^7: relative error about 1e-7. No branches, so that the
// compiler turns a loop over it into vectors.
WEFT_INLINE float Exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float sum = 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound))
                            << 23;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(sum) + exponent);
}

WEFT_INLINE float Gate(float x) { return 1.0f / (1.0f + Exp(-kSlope * x)); }

template <typename T>
WEFT_INLINE void ForwardLoop(const T* __restrict x, T* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = Load(x + i);
    Store(value * Gate(value), y + i);
  }
}

template <typename T>
WEFT_INLINE void BackwardLoop(const T* __restrict x, const T* __restrict dy, T* __restrict dx,
                              int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = Load(x + i);
    const float gate = Gate(value);
    Store(Load(dy + i) * (gate + kSlope * value * gate * (1.0f - gate)), dx + i);
  }
}

// Columns in strips that stay in the first-level cache.
template <typename T>
WEFT_INLINE void ColumnLoop(const T* __restrict x, int64_t rows, int64_t columns,
                            float* __restrict sum) {
  constexpr int64_t kStrip = 1024;
  float strip[kStrip];
  for (int64_t begin = 0; begin < columns; begin += kStrip) {
    const int64_t width = std::min(kStrip, columns - begin);
    for (int64_t c = 0; c < width; ++c) strip[c] = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const T* in = x + row * columns + begin;
      for (int64_t c = 0; c < width; ++c) strip[c] += Load(in + c);
    }
    for (int64_t c = 0; c < width; ++c) sum[begin + c] += strip[c];
  }
}

// Sums run in kLanes interleaved parts, so that they are vectors in a fixed order.
constexpr int64_t kLanes = 16;

WEFT_INLINE float AddLanes(const float* lanes) {
  float sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

// One row of SoftmaxBackward over its first `n` columns.
template <typename T>
WEFT_INLINE void SoftmaxRow(T* __restrict scores, T* __restrict grads, int64_t n, float scale) {
  const int64_t whole = n / kLanes * kLanes;
  float most[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) most[lane] = Load(scores);
  for (int64_t j = 0; j < whole; j += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = Load(scores + j + lane);
      most[lane] = value > most[lane] ? value : most[lane];
    }
  }
  float max = most[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) max = most[lane] > max ? most[lane] : max;
  for (int64_t j = whole; j < n; ++j) max = Load(scores + j) > max ? Load(scores + j) : max;

  // The exponentials are computed twice instead of being kept: a row may be of any length.
  float sums[kLanes] = {};
  float dots[kLanes] = {};
  for (int64_t j = 0; j < whole; j += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float e = Exp((Load(scores + j + lane) - max) * scale);
      sums[lane] += e;
      dots[lane] += e * Load(grads + j + lane);
    }
  }
  for (int64_t j = whole; j < n; ++j) {
    const float e = Exp((Load(scores + j) - max) * scale);
    sums[j - whole] += e;
    dots[j - whole] += e * Load(grads + j);
  }
  const float inverse = 1.0f / AddLanes(sums);
  const float dot = AddLanes(dots) * inverse;
  for (int64_t j = 0; j < n; ++j) {
    const float p = Exp((Load(scores + j) - max) * scale) * inverse;
    Store(p * (Load(grads + j) - dot) * scale, grads + j);
    Store(p, scores + j);
  }
}

template <typename T>
WEFT_INLINE void SoftmaxLoop(T* scores, T* grads, int64_t rows, int64_t columns, float scale,
                             bool causal) {
  for (int64_t row = 0; row < rows; ++row) {
    T* const s = scores + row * columns;
    T* const g = grads + row * columns;
    const int64_t n = causal ? row % columns + 1 : columns;
    SoftmaxRow(s, g, n, scale);
    for (int64_t j = n; j < columns; ++j) {
      s[j] = 0;
      g[j] = 0;
    }
  }
}

}  // namespace

WEFT_CPU_CLONES void SoftmaxBackward(float* scores, float* d_probabilities, int64_t rows,
                                     int64_t columns, float scale, bool causal) {
  SoftmaxLoop(scores, d_probabilities, rows, columns, scale, causal);
}
WEFT_CPU_CLONES void SoftmaxBackward(BFloat16Bits* scores, BFloat16Bits* d_probabilities,
                                     int64_t rows, int64_t columns, float scale, bool causal) {
  SoftmaxLoop(scores, d_probabilities, rows, columns, scale, causal);
}
WEFT_CPU_CLONES void QuickGeluForward(const float* x, float* y, int64_t n) { ForwardLoop(x, y, n); }
WEFT_CPU_CLONES void QuickGeluForward(const BFloat16Bits* x, BFloat16Bits* y, int64_t n) {
  ForwardLoop(x, y, n);
}
WEFT_CPU_CLONES void QuickGeluBackward(const float* x, const float* dy, float* dx, int64_t n) {
  BackwardLoop(x, dy, dx, n);
}
WEFT_CPU_CLONES void QuickGeluBackward(const BFloat16Bits* x, const BFloat16Bits* dy,
                                       BFloat16Bits* dx, int64_t n) {
  BackwardLoop(x, dy, dx, n);
}
WEFT_CPU_CLONES void AddColumnSums(const float* x, int64_t rows, int64_t columns, float* sum) {
  ColumnLoop(x, rows, columns, sum);
}
WEFT_CPU_CLONES void AddColumnSums(const BFloat16Bits* x, int64_t rows, int64_t columns,
                                   float* sum) {
  ColumnLoop(x, rows, columns, sum);
}

}  // namespace weft::cpu
