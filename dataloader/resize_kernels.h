// Inner loops of the resize: integers only, so that every instruction set gives the same bytes.
//
// Four neighbouring inputs of an axis are a quad: one 32-bit word, the first input in the low byte. The horizontal pass takes
// tiles of 16 rows, a quad of each row side by side, and leaves quads of four rows each, which the vertical pass reads as they
// lie. So a multiplication of four bytes at once (AVX-512 VNNI) serves both, and nothing is transposed in between.
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft {

// Weights have this many fraction bits: 8 bits of data and 2 bits of overshoot fit beside them in 32.
constexpr int kWeightBits = 32 - 8 - 2;
// Narrow ones are a fifth of a level off at most, and fewer multiplications.
constexpr int kNarrowBits = 14;

// Rows that are resized together.
constexpr size_t kTileRows = 16;

// An axis' weights as the kernels read them. Output i is (1/2 + the sum of weight * input over `quads` quads from firsts[i] on)
// >> bits, cut to a byte; its weights begin at words[i * stride]. All outputs have as many quads as the largest one needs: loops
// of one length are foreseen by the processor, which is worth more than the zeros cost.
struct QuadWeights {
  int bits = kWeightBits;
  size_t size = 0;    // outputs
  size_t quads = 0;   // of an output
  size_t stride = 0;  // words of an output
  std::vector<uint32_t> firsts;
  std::vector<uint32_t> words;
};

// Columns of a row that may be read, though not used: where 64 are summed at a time.
constexpr size_t kColumnsAhead = 64;

// Quads of rows: that of rows [4 g, 4 g + 4) in column x is at words[g * stride + x]; the stride is a multiple of 4, and
// kColumnsAhead words follow the last one.
struct RowQuads {
  uint32_t* words = nullptr;
  size_t stride = 0;
};

struct ResizeKernels {
  // The weights of `quads` quads to the words that the passes want, words_per_quad(bits) of them for each.
  size_t (*words_per_quad)(int bits);
  void (*pack)(const int32_t* weights, size_t quads, int bits, uint32_t* words);
  // Quads [0, count) of 16 rows to tile[16 * quad + row]. All 4 * count bytes of a row are read.
  void (*gather)(const uint8_t* const rows[kTileRows], size_t count, uint32_t* tile);
  // A tile to columns [0, weights.size) of four row quads, the last output first if `flip`.
  void (*horizontal)(const uint32_t* tile, const QuadWeights& weights, bool flip, RowQuads out);
  // Row i of the result: `width` bytes.
  void (*vertical)(RowQuads in, size_t width, const QuadWeights& weights, size_t i, uint8_t* out);
};

// All that this machine has, the portable ones first: for tests.
std::vector<ResizeKernels> AllResizeKernels();
// The fastest that this machine has.
ResizeKernels ChooseResizeKernels();

}  // namespace weft
