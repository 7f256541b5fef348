// What one thread of a device's kernel does; plain functions, so that tests run the same code on the CPU. Arithmetic is that
// of cpu_dropout.h and embedding.cc, operation by operation, so the bits are too.
//
// Thread rule: pure functions; threads of different numbers write different elements.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define WEFT_BODY __host__ __device__ inline
#else
#define WEFT_BODY inline
#endif

namespace weft::body {

// The bits of a bf16.
struct BFloat16 {
  uint16_t bits;
};

WEFT_BODY float Load(const float* p) { return *p; }
WEFT_BODY double Load(const double* p) { return *p; }
WEFT_BODY float Load(const BFloat16* p) {
  const uint32_t bits = static_cast<uint32_t>(p->bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
WEFT_BODY void Store(float value, float* p) { *p = value; }
WEFT_BODY void Store(double value, double* p) { *p = value; }
// Rounds to nearest even; NaN stays NaN.
WEFT_BODY void Store(float value, BFloat16* p) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  p->bits = static_cast<uint16_t>(value != value ? 0x7fc0 : rounded);
}

// The 128 bits of cluster/base/philox.h as eight draws of 16, in the order of their elements.
WEFT_BODY void PhiloxDraws(uint64_t key, uint64_t row, uint64_t block, uint16_t* draws) {
  uint32_t c[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                   static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)};
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
    c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int word = 0; word < 4; ++word) {
    draws[2 * word] = static_cast<uint16_t>(c[word]);
    draws[2 * word + 1] = static_cast<uint16_t>(c[word] >> 16);
  }
}

// cpu::DropoutDraw and ElementRuns (dropout.h), as plain numbers.
struct DropoutPlan {
  uint64_t key;
  uint32_t threshold;
  double scale;
  int64_t length;
  int64_t first_row;
  int64_t first_run;
  int64_t runs_a_row;
  int64_t inner;
  int64_t inner_stride;
  int64_t outer_stride;
  int64_t offset;
};

constexpr int64_t kDraws = 8;  // of a Philox block

// Threads for each run: its blocks, one more where it begins inside of one.
WEFT_BODY int64_t ThreadsPerRun(const DropoutPlan& plan) {
  return (plan.length + kDraws - 1) / kDraws + 1;
}

// The elements of one run that share a block of draws. T: in memory; Wide: of the product.
template <typename T, typename Wide>
WEFT_BODY void DropoutThread(const T* x, T* y, const DropoutPlan& plan, int64_t thread) {
  const int64_t per_run = ThreadsPerRun(plan);
  const int64_t run = thread / per_run;
  const int64_t number = plan.first_run + run;
  const int64_t n = number % plan.runs_a_row;
  const int64_t first =
      plan.offset + n / plan.inner * plan.outer_stride + n % plan.inner * plan.inner_stride;
  const int64_t block = first / kDraws + thread % per_run;
  const int64_t begin = block * kDraws > first ? block * kDraws : first;
  const int64_t end =
      (block + 1) * kDraws < first + plan.length ? (block + 1) * kDraws : first + plan.length;
  if (begin >= end) return;
  uint16_t draws[kDraws];
  PhiloxDraws(plan.key, static_cast<uint64_t>(plan.first_row + number / plan.runs_a_row),
              static_cast<uint64_t>(block), draws);
  const auto scale = static_cast<Wide>(plan.scale);
  const int64_t base = run * plan.length - first;
  for (int64_t e = begin; e < end; ++e) {
    const Wide value = static_cast<Wide>(Load(x + base + e)) * scale;
    Store(draws[e % kDraws] < plan.threshold ? Wide{0} : value, y + base + e);
  }
}

// rows[order[i]] are added to table[sorted[i]], in the order of i. `sorted` ascends; equal ids keep the order of their rows;
// ids below zero have no row. The thread (i, k) has feature k of the id that begins at i.
template <typename T>
WEFT_BODY void AddRowsThread(T* table, const int64_t* sorted, const int64_t* order, const T* rows,
                             int64_t count, int64_t width, int64_t thread) {
  const int64_t i = thread / width;
  const int64_t k = thread % width;
  const int64_t id = sorted[i];
  if (id < 0 || (i > 0 && sorted[i - 1] == id)) return;
  T sum = table[id * width + k];
  for (int64_t j = i; j < count && sorted[j] == id; ++j) sum += rows[order[j] * width + k];
  table[id * width + k] = sum;
}

}  // namespace weft::body
