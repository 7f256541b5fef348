// Rotary position embedding (Su et al. 2021), with the first half of a head's features paired with the second (the layout of
// Hugging Face's LLaMA weights). Angles in fp64, arithmetic in fp32 (fp64).
//
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

namespace weft {

// x [b, s, heads, d], token t at position t; feature i < d/2 turns by t theta^(-2i/d). With segment_at [b, s], where each
// token's segment of a packed row begins, positions count from there.
at::Tensor Rotate(const at::Tensor& x, double theta, const at::Tensor& segment_at = {});

}  // namespace weft
