// Dropout and drop path (stochastic depth; Huang et al. 2016) whose draws are functions of (seed, site, step) and of the
// element's place in the global batch (cpu_dropout.h): equal bits however rows, heads and features are split over ranks,
// in a recomputation and after a restart. The mask is drawn again in the backward, never saved.
//
// A row is a sample of the global batch; an element is token * width + feature, or (head * S + query) * S + key with the
// recipe's S. p is rounded to 1 / 65536; what stays is scaled by 1 / (1 - p).
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "parallel/engine/block.h"

namespace weft {

struct Dropout {
  double p = 0;
  // Of the draws: DropoutKey.
  uint64_t key = 0;
};

// The site "NAME" ("BLOCK.attn") of the context's wave and step.
uint64_t DropoutKey(const MicroBatchContext& context, const std::string& site);
// p is zero where the context is not training.
Dropout DropoutAt(const MicroBatchContext& context, const std::string& site, double p);

// Which elements a contiguous tensor holds: runs of consecutive ones. Run number first_run + r of `first_row` and the rows
// after it, runs_a_row to a row; the run with number n of a row begins at the element
// offset + n / inner * outer_stride + n % inner * inner_stride.
struct ElementRuns {
  int64_t length = 0;
  int64_t first_row = 0;
  int64_t first_run = 0;
  int64_t runs_a_row = 1;
  int64_t inner = 1;
  int64_t inner_stride = 0;
  int64_t outer_stride = 0;
  int64_t offset = 0;
};

// Rows (sample, token) of `width` features, from row number `begin` of the micro-batch on.
ElementRuns TokenRuns(const MicroBatchContext& context, int64_t tokens, int64_t width,
                      int64_t begin = 0);
// Probabilities [samples, heads, queries, keys] of the heads from first_head on; `most` is S.
ElementRuns HeadRuns(int64_t first_row, int64_t heads, int64_t first_head, int64_t queries,
                     int64_t keys, int64_t most);

// x itself if p is 0.
at::Tensor ApplyDropout(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs);
// Without a tape.
at::Tensor DropoutMasked(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs);

// Drops whole samples: x has rows (sample, token) from row number `begin` of the micro-batch on, in any leading
// dimensions. The draw is element 0 of the sample's row.
at::Tensor DropPath(const at::Tensor& x, const Dropout& dropout, const MicroBatchContext& context,
                    int64_t tokens, int64_t begin = 0);

}  // namespace weft
