#include "models/layers/activation.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sigmoid.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/layers/cpu_kernels.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kSlope = 1.702;

// Elements that a thread takes at a time.
constexpr int64_t kGrain = 1 << 15;

bool HasKernel(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

template <typename T>
at::Tensor KernelForward(const at::Tensor& x) {
  at::Tensor y = at::empty_like(x);
  const auto* in = static_cast<const T*>(x.const_data_ptr());
  auto* out = static_cast<T*>(y.data_ptr());
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    cpu::QuickGeluForward(in + begin, out + begin, end - begin);
  });
  return y;
}

template <typename T>
at::Tensor KernelBackward(const at::Tensor& x, const at::Tensor& dy) {
  at::Tensor dx = at::empty_like(x);
  const auto* in = static_cast<const T*>(x.const_data_ptr());
  const auto* grad = static_cast<const T*>(dy.const_data_ptr());
  auto* out = static_cast<T*>(dx.data_ptr());
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    cpu::QuickGeluBackward(in + begin, grad + begin, out + begin, end - begin);
  });
  return dx;
}

at::Tensor Forward(const at::Tensor& x) {
  if (!HasKernel(x)) return at::mul(x, kSlope).sigmoid_().mul_(x);
  return x.scalar_type() == at::kFloat ? KernelForward<float>(x)
                                       : KernelForward<cpu::BFloat16Bits>(x);
}

// d/dx = g + 1.702 x g (1 - g) with g = sigmoid(1.702 x).
at::Tensor Backward(const at::Tensor& x, const at::Tensor& dy) {
  if (!HasKernel(x)) {
    const at::Tensor gate = at::mul(x, kSlope).sigmoid_();
    return at::mul(gate, x).mul_(gate.neg().add_(1)).mul_(kSlope).add_(gate).mul_(dy);
  }
  return x.scalar_type() == at::kFloat ? KernelBackward<float>(x, dy)
                                       : KernelBackward<cpu::BFloat16Bits>(x, dy);
}

struct QuickGeluFunction : torch::autograd::Function<QuickGeluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x) {
    ctx->save_for_backward({x});
    return Forward(x);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {Backward(ctx->get_saved_variables()[0], grads[0].contiguous())};
  }
};

at::Tensor Wide(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

struct SiluTimesFunction : torch::autograd::Function<SiluTimesFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate, const at::Tensor& up) {
    ctx->save_for_backward({gate, up});
    const at::Tensor g = Wide(gate);
    return at::sigmoid(g).mul_(g).mul_(Wide(up)).to(gate.scalar_type());
  }

  // d silu/dg = s (1 + g (1 - s)) with s = sigmoid(g).
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor g = Wide(saved[0]);
    const at::Tensor dy = Wide(grads[0]);
    const at::Tensor s = at::sigmoid(g);
    const at::Tensor d_up = at::mul(s, g).mul_(dy);
    const at::Tensor d_gate = s.neg().add_(1).mul_(g).add_(1).mul_(s).mul_(Wide(saved[1])).mul_(dy);
    return {d_gate.to(saved[0].scalar_type()), d_up.to(saved[1].scalar_type())};
  }
};

}  // namespace

at::Tensor Gelu(const at::Tensor& x) { return at::gelu(x); }

at::Tensor SiluTimes(const at::Tensor& gate, const at::Tensor& up) {
  return SiluTimesFunction::apply(gate, up);
}

at::Tensor QuickGelu(const at::Tensor& x) { return QuickGeluFunction::apply(x.contiguous()); }

}  // namespace weft
