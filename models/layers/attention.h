// Scaled dot-product attention of any number of heads (Vaswani et al. 2017), self or cross, grouped-query (Ainslie et al.
// 2023), with a causal, a key and a segment mask and keyed dropout on the probabilities. Softmax in fp32 (fp64). Heads are independent:
// a tensor-parallel rank passes its own.
//
// A query that may see no key gets zeros. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/dropout.h"

namespace weft {

struct AttendOptions {
  // A query sees the key of its own position and those before it. REQUIRES: as many queries as keys.
  bool causal = false;
  // The key mask's zeros end a row, and nobody reads what their queries get: causal queries before them see none anyway.
  bool padding_last = false;
  // Of packed rows, [b, s]: the first key that a query sees, where its segment begins; undefined: key 0. REQUIRES: causal, no
  // key mask.
  at::Tensor segment_at;
  // CountSegments(segment_at), where the host knows it.
  int64_t segments = -1;
  // On the probabilities: element (head * S + query) * S + key of a sample's row, heads counted over all ranks.
  Dropout dropout;
  // Of the micro-batch's first sample.
  int64_t first_row = 0;
  // This rank's first query head.
  int64_t first_head = 0;
  // S of the recipe. REQUIRES: not below the numbers of queries and keys, if there is dropout.
  int64_t most_tokens = 0;
  // Keep q, k and v only and compute the probabilities again in the backward: equal bits.
  bool recompute = false;
};

// q [b, s, heads, d], k and v [b, t, kv_heads, d] -> [b, s, heads, d], scaled by 1/sqrt(d). Query head i uses kv head
// i / (heads / kv_heads). key_mask: undefined, or [b, t] with zeros where no query may look.
at::Tensor Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& key_mask, const AttendOptions& options);

// The same by LibTorch's fused kernels (flash attention on CUDA in bf16), for causal attention whose only mask is
// padding_last. Attend takes it on a device in bf16 if there is no dropout; elsewhere the products above are as exact, or faster.
at::Tensor AttendCausalFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Of packed rows by LibTorch's flash attention over segments of any length, with the memory of their tokens only: bf16 on
// CUDA. `segments` from the host, so that it need not wait for the device. Attend takes it where it fits and there is no
// dropout. It is compiled everywhere; it has not run on a GPU yet. REQUIRES: FitsSegmentsFused.
at::Tensor AttendSegmentsFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& segment_at, int64_t segments);

// Whether that kernel takes such heads, and the device has it: LibTorch would choose it, or cuDNN's, for them without segments.
bool FitsSegmentsFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Segments of two tokens and more in segment_at [b, s], and rows that begin without one. Shorter ones are padding and belong
// to the segment before them.
int64_t CountSegments(const at::Tensor& segment_at);
// Where they begin in the flattened rows, and the end of the last: int32 [segments + 1].
at::Tensor SegmentBounds(const at::Tensor& segment_at, int64_t segments);

// The fast path of self-attention without dropout and key mask: q, k and v of every head [b, s, 3, heads, d] ->
// [b, s, heads, d]. Keeps qkv only.
at::Tensor AttendHeads(const at::Tensor& qkv, bool causal);

}  // namespace weft
