// Activation functions as Functions of ours that save only their input.
//
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

namespace weft {

// x * sigmoid(1.702 x): OpenAI's approximation of GELU (Hendrycks and Gimpel 2016). Arithmetic in fp32 for bf16.
at::Tensor QuickGelu(const at::Tensor& x);

// x Phi(x) with the error function (Hendrycks and Gimpel 2016).
at::Tensor Gelu(const at::Tensor& x);

// silu(gate) * up, the gated half of SwiGLU (Shazeer 2020). Arithmetic in fp32 for bf16.
at::Tensor SiluTimes(const at::Tensor& gate, const at::Tensor& up);

}  // namespace weft
