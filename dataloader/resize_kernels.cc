#include "dataloader/resize_kernels.h"

#include "dataloader/jpeg/clones.h"
#include "dataloader/resize_x86.h"

namespace weft {
namespace {

// Columns that the vertical pass sums at a time.
constexpr size_t kColumns = 64;

WEFT_ALWAYS_INLINE uint32_t ToByte(int32_t sum, int bits) {
  const int32_t value = sum >> bits;
  return static_cast<uint32_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// Adds what `count` quads give to kCount sums; the quads of neighbouring sums are neighbours, those of one are `step` apart.
template <size_t kCount>
WEFT_ALWAYS_INLINE void AddQuads(const uint32_t* __restrict quads, size_t step, size_t count,
                                 const uint32_t* __restrict weights, int32_t* __restrict sums) {
  for (size_t q = 0; q < count; ++q, quads += step) {
    for (size_t byte = 0; byte < 4; ++byte) {
      const auto weight = static_cast<int32_t>(weights[4 * q + byte]);
      for (size_t k = 0; k < kCount; ++k)
        sums[k] += weight * static_cast<int32_t>((quads[k] >> (8 * byte)) & 255);
    }
  }
}

size_t WordsPerQuad(int /*bits*/) { return 4; }

void Pack(const int32_t* weights, size_t quads, int /*bits*/, uint32_t* words) {
  for (size_t k = 0; k < 4 * quads; ++k) words[k] = static_cast<uint32_t>(weights[k]);
}

void Gather(const uint8_t* const rows[kTileRows], size_t count, uint32_t* tile) {
  for (size_t r = 0; r < kTileRows; ++r) {
    const uint8_t* in = rows[r];
    for (size_t q = 0; q < count; ++q, in += 4) {
      tile[q * kTileRows + r] = in[0] | static_cast<uint32_t>(in[1]) << 8 |
                                static_cast<uint32_t>(in[2]) << 16 |
                                static_cast<uint32_t>(in[3]) << 24;
    }
  }
}

WEFT_PIXEL_CLONES void Horizontal(const uint32_t* tile, const QuadWeights& weights, bool flip,
                                  RowQuads out) {
  for (size_t x = 0; x < weights.size; ++x) {
    const size_t i = flip ? weights.size - 1 - x : x;
    int32_t sums[kTileRows];
    for (int32_t& sum : sums) sum = 1 << (weights.bits - 1);
    AddQuads<kTileRows>(tile + weights.firsts[i] * kTileRows, kTileRows, weights.quads,
                        weights.words.data() + i * weights.stride, sums);
    for (size_t g = 0; g < kTileRows / 4; ++g) {
      uint32_t quad = 0;
      for (size_t byte = 0; byte < 4; ++byte)
        quad |= ToByte(sums[4 * g + byte], weights.bits) << (8 * byte);
      out.words[g * out.stride + x] = quad;
    }
  }
}

WEFT_PIXEL_CLONES void Vertical(RowQuads in, size_t width, const QuadWeights& weights, size_t i,
                                uint8_t* out) {
  const uint32_t* quads = in.words + weights.firsts[i] * in.stride;
  const uint32_t* words = weights.words.data() + i * weights.stride;
  int32_t sums[kColumns];
  size_t x = 0;
  for (; x + kColumns <= width; x += kColumns) {
    for (int32_t& sum : sums) sum = 1 << (weights.bits - 1);
    AddQuads<kColumns>(quads + x, in.stride, weights.quads, words, sums);
    for (size_t k = 0; k < kColumns; ++k)
      out[x + k] = static_cast<uint8_t>(ToByte(sums[k], weights.bits));
  }
  for (; x < width; ++x) {
    sums[0] = 1 << (weights.bits - 1);
    AddQuads<1>(quads + x, in.stride, weights.quads, words, sums);
    out[x] = static_cast<uint8_t>(ToByte(sums[0], weights.bits));
  }
}

}  // namespace

std::vector<ResizeKernels> AllResizeKernels() {
  std::vector<ResizeKernels> all = {{&WordsPerQuad, &Pack, &Gather, &Horizontal, &Vertical}};
  for (const ResizeKernels& kernels : X86ResizeKernels()) all.push_back(kernels);
  return all;
}

ResizeKernels ChooseResizeKernels() { return AllResizeKernels().back(); }

}  // namespace weft
