#include "models/layers/cpu_dropout.h"

#include <algorithm>

#include "models/layers/cpu_clones.h"

namespace weft::cpu {
namespace {

constexpr int64_t kDrawsABlock = 8;
// Blocks drawn together: the lanes of a vector.
constexpr int64_t kBlocks = 16;

// Draws of the blocks (row, first_block + 0, 1, ... kBlocks - 1), in the order of their elements.
WEFT_INLINE void DrawBlocks(uint64_t key, uint64_t row, uint64_t first_block,
                            uint16_t* __restrict draws) {
  uint32_t c0[kBlocks];
  uint32_t c1[kBlocks];
  uint32_t c2[kBlocks];
  uint32_t c3[kBlocks];
  for (int64_t i = 0; i < kBlocks; ++i) {
    const uint64_t block = first_block + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(block);
    c1[i] = static_cast<uint32_t>(block >> 32);
    c2[i] = static_cast<uint32_t>(row);
    c3[i] = static_cast<uint32_t>(row >> 32);
  }
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int64_t i = 0; i < kBlocks; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c0[i];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int64_t i = 0; i < kBlocks; ++i) {
    const uint32_t words[] = {c0[i], c1[i], c2[i], c3[i]};
    for (int64_t w = 0; w < 4; ++w) {
      draws[i * kDrawsABlock + 2 * w] = static_cast<uint16_t>(words[w]);
      draws[i * kDrawsABlock + 2 * w + 1] = static_cast<uint16_t>(words[w] >> 16);
    }
  }
}

template <typename T, typename Wide>
WEFT_INLINE void DropoutLoop(const T* x, T* y, int64_t n, const DropoutDraw& draw, uint64_t row,
                             uint64_t first) {
  uint16_t draws[kBlocks * kDrawsABlock];
  const auto scale = static_cast<Wide>(draw.scale);
  uint64_t block = first / kDrawsABlock;
  auto skip = static_cast<int64_t>(first % kDrawsABlock);
  for (int64_t done = 0; done < n;) {
    DrawBlocks(draw.key, row, block, draws);
    const int64_t count = std::min(n - done, kBlocks * kDrawsABlock - skip);
    for (int64_t i = 0; i < count; ++i) {
      const Wide value = static_cast<Wide>(Load(x + done + i)) * scale;
      Store(draws[skip + i] < draw.threshold ? Wide{0} : value, y + done + i);
    }
    done += count;
    block += kBlocks;
    skip = 0;
  }
}

}  // namespace

WEFT_CPU_CLONES void DropoutRun(const float* x, float* y, int64_t n, const DropoutDraw& draw,
                                uint64_t row, uint64_t first) {
  DropoutLoop<float, float>(x, y, n, draw, row, first);
}
WEFT_CPU_CLONES void DropoutRun(const double* x, double* y, int64_t n, const DropoutDraw& draw,
                                uint64_t row, uint64_t first) {
  DropoutLoop<double, double>(x, y, n, draw, row, first);
}
WEFT_CPU_CLONES void DropoutRun(const BFloat16Bits* x, BFloat16Bits* y, int64_t n,
                                const DropoutDraw& draw, uint64_t row, uint64_t first) {
  DropoutLoop<BFloat16Bits, float>(x, y, n, draw, row, first);
}

}  // namespace weft::cpu
