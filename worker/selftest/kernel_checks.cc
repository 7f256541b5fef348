#include "worker/selftest/kernel_checks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <string>

#include "models/layers/attention.h"
#include "models/layers/dropout.h"
#include "models/layers/embedding.h"
#include "parallel/engine/parameter.h"

namespace weft {
namespace {

// Numbers of both signs and many sizes, the same everywhere.
at::Tensor Numbers(int64_t rows, int64_t columns) {
  return at::arange(1, rows * columns + 1, at::kDouble)
      .mul_(0.6180339887)
      .sin_()
      .view({rows, columns});
}

double Differing(const at::Tensor& a, const at::Tensor& b) {
  return static_cast<double>(at::ne(a, b).sum().item<int64_t>());
}

SelfCheck CheckDropout(const ComputeDevice& device, at::ScalarType type) {
  MicroBatchContext context;
  context.first_row = 3;
  const Dropout dropout = {0.1, 0x9e3779b97f4a7c15ULL};
  // Three samples of ViT-L's 257 tokens and 1,024 features.
  const at::Tensor x = Numbers(3 * 257, 1024).to(type);
  const ElementRuns runs = TokenRuns(context, 257, 1024);
  const at::Tensor expected = DropoutMasked(x, dropout, runs);
  const at::Tensor got = device.ToHost(DropoutMasked(device.ToDevice(x), dropout, runs));
  return {std::string("keyed dropout, ") + c10::toString(type),
          "elements that differ from the CPU's", Differing(got, expected), 0};
}

// The sum of an embedding's gradient, through the layer's own backward.
at::Tensor EmbeddingGradient(const ComputeDevice& device, const at::Tensor& ids,
                             const at::Tensor& dy) {
  Parameter table;
  table.value = at::zeros({1000, dy.size(1)}, device.Options(at::kFloat));
  table.main_grad = at::zeros_like(table.value);
  table.anchor = at::zeros({0}, device.Options(at::kFloat)).requires_grad_(true);
  const Embedding embedding(&table);
  embedding(device.ToDevice(ids)).backward(device.ToDevice(dy));
  return device.ToHost(table.main_grad);
}

SelfCheck CheckEmbedding(const ComputeDevice& device) {
  const at::Tensor dy = Numbers(4096, 256).to(at::kFloat);
  // Frequent and rare words.
  const at::Tensor ids =
      at::arange(4096, at::kLong).mul_(7919).remainder_(997).mul_(3).remainder_(1000);
  return {
      "embedding gradient, fp32", "elements that differ from the CPU's",
      Differing(EmbeddingGradient(device, ids, dy), EmbeddingGradient(ComputeDevice(), ids, dy)),
      0};
}

// Two packed rows of 256 tokens: segments of 100 and 61 with padding behind them, and one that fills its row.
at::Tensor SegmentAt() {
  at::Tensor segment_at = at::arange(256, at::kInt).repeat({2, 1});
  segment_at[0].narrow(0, 0, 100).fill_(0);
  segment_at[0].narrow(0, 100, 61).fill_(100);
  segment_at[1].fill_(0);
  return segment_at;
}

// Output and gradients of attention over segments, one after the other in fp64; nobody reads what padding gets.
at::Tensor AttendSegments(const ComputeDevice& device, at::ScalarType type) {
  const auto input = [&](int64_t heads, double scale) {
    return device.ToDevice(Numbers(2 * 256 * heads, 64).mul_(scale).view({2, 256, heads, 64}))
        .to(type)
        .requires_grad_(true);
  };
  const at::Tensor q = input(8, 1);
  const at::Tensor k = input(2, 0.7);
  const at::Tensor v = input(2, 1.3);
  AttendOptions options;
  options.causal = true;
  options.segment_at = device.ToDevice(SegmentAt());
  options.segments = CountSegments(SegmentAt());
  at::Tensor dy = device.ToDevice(Numbers(2 * 256 * 8, 64).view({2, 256, 8, 64})).to(type);
  dy[0].narrow(0, 161, 95).zero_();
  at::Tensor y = Attend(q, k, v, {}, options);
  y.backward(dy);
  y = y.detach().clone();
  y[0].narrow(0, 161, 95).zero_();
  const auto wide = [&](const at::Tensor& x) { return device.ToHost(x).to(at::kDouble).flatten(); };
  return at::cat({wide(y), wide(q.grad()), wide(k.grad()), wide(v.grad())});
}

SelfCheck CheckSegments(const ComputeDevice& device, at::ScalarType type, double limit) {
  const at::Tensor expected = AttendSegments(ComputeDevice(), at::kDouble);
  const at::Tensor error = AttendSegments(device, type).sub_(expected);
  return {std::string("attention of packed rows, ") + c10::toString(type),
          "output and gradients against the CPU in fp64",
          error.norm().item<double>() / expected.norm().item<double>(), limit};
}

}  // namespace

std::vector<SelfCheck> CheckKernels(const ComputeDevice& device) {
  return {CheckDropout(device, at::kDouble),       CheckDropout(device, at::kFloat),
          CheckDropout(device, at::kBFloat16),     CheckEmbedding(device),
          CheckSegments(device, at::kFloat, 1e-5), CheckSegments(device, at::kBFloat16, 2e-2)};
}

}  // namespace weft
