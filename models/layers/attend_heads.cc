#include "models/layers/attention.h"

#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/layers/cpu_kernels.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Scores that the backward holds at a time: they should stay in the second-level cache.
constexpr int64_t kScoresAtATime = 1 << 20;

// scores -> probabilities; d_probabilities -> gradient of the unscaled scores. Both [rows, s, s], in place.
void SoftmaxBackward(at::Tensor* scores, at::Tensor* d_probabilities, double scale, bool causal) {
  const int64_t s = scores->size(2);
  const int64_t rows = scores->size(0) * s;
  if (scores->is_cpu() && scores->scalar_type() == at::kFloat) {
    cpu::SoftmaxBackward(scores->data_ptr<float>(), d_probabilities->data_ptr<float>(), rows, s,
                         static_cast<float>(scale), causal);
  } else if (scores->is_cpu() && scores->scalar_type() == at::kBFloat16) {
    cpu::SoftmaxBackward(static_cast<cpu::BFloat16Bits*>(scores->data_ptr()),
                         static_cast<cpu::BFloat16Bits*>(d_probabilities->data_ptr()), rows, s,
                         static_cast<float>(scale), causal);
  } else {
    scores->mul_(scale);
    if (causal) {
      scores->masked_fill_(at::ones({s, s}, scores->options().dtype(at::kBool)).triu(1),
                           -std::numeric_limits<double>::infinity());
    }
    *scores = at::softmax(*scores, 2);
    *d_probabilities =
        at::_softmax_backward_data(*d_probabilities, *scores, 2, scores->scalar_type()).mul_(scale);
  }
}

// Attention on the CPU. LibTorch's fused backward runs a small matrix product per head and block and was 20 times slower
// for bf16 at 65 tokens than the batched products here (toolchain: 2.11), so only its forward is used. Saves qkv alone.
struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  // qkv [b, s, 3, h, d] -> [b, s, h, d].
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, bool causal) {
    ctx->saved_data["causal"] = causal;
    ctx->save_for_backward({qkv});
    const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
    return at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                            /*dropout_p=*/0.0, causal)
        .transpose(1, 2)
        .contiguous();
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const bool causal = ctx->saved_data["causal"].toBool();
    const at::Tensor qkv = ctx->get_saved_variables()[0];
    at::Tensor dqkv = at::empty_like(qkv);
    const int64_t b = qkv.size(0);
    const int64_t s = qkv.size(1);
    const int64_t step = std::max<int64_t>(1, kScoresAtATime / (qkv.size(3) * s * s));
    for (int64_t begin = 0; begin < b; begin += step) {
      const int64_t count = std::min(step, b - begin);
      BackwardSamples(qkv.narrow(0, begin, count), grads[0].narrow(0, begin, count), causal,
                      dqkv.narrow(0, begin, count));
    }
    return {dqkv, {}};
  }

  static void BackwardSamples(const at::Tensor& qkv, const at::Tensor& dy, bool causal,
                              at::Tensor dqkv) {
    const int64_t b = qkv.size(0);
    const int64_t s = qkv.size(1);
    const int64_t h = qkv.size(3);
    const int64_t d = qkv.size(4);
    // [b, s, h, d] <-> [b h, s, d].
    const auto heads_first = [&](const at::Tensor& x) {
      return x.transpose(1, 2).reshape({b * h, s, d});
    };
    const auto put = [&](int64_t part, const at::Tensor& x) {
      dqkv.select(2, part).copy_(x.view({b, h, s, d}).transpose(1, 2));
    };
    const at::Tensor q = heads_first(qkv.select(2, 0));
    const at::Tensor k = heads_first(qkv.select(2, 1));
    const at::Tensor v = heads_first(qkv.select(2, 2));
    const at::Tensor d_out = heads_first(dy);
    at::Tensor probabilities = at::bmm(q, k.transpose(1, 2));
    at::Tensor d_scores = at::bmm(d_out, v.transpose(1, 2));
    SoftmaxBackward(&probabilities, &d_scores, 1 / std::sqrt(static_cast<double>(d)), causal);
    put(0, at::bmm(d_scores, k));
    put(1, at::bmm(d_scores.transpose(1, 2), q));
    put(2, at::bmm(probabilities.transpose(1, 2), d_out));
  }
};

}  // namespace

at::Tensor AttendHeads(const at::Tensor& qkv, bool causal) {
  if (qkv.is_cpu()) return AttentionFunction::apply(qkv, causal);
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);
  return at::scaled_dot_product_attention(parts[0], parts[1], parts[2], /*attn_mask=*/{},
                                          /*dropout_p=*/0.0, causal)
      .transpose(1, 2);
}

}  // namespace weft
