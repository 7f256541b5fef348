#include "worker/selftest/kernel_checks.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <string>

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

}  // namespace

std::vector<SelfCheck> CheckKernels(const ComputeDevice& device) {
  return {CheckDropout(device, at::kDouble), CheckDropout(device, at::kFloat),
          CheckDropout(device, at::kBFloat16), CheckEmbedding(device)};
}

}  // namespace weft
