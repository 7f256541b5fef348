// Layers against plain autograd references in fp64, and their fp32 and bf16 kernels against fp64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/layers/activation.h"
#include "models/layers/attention.h"
#include "models/layers/embedding.h"
#include "models/layers/linear.h"
#include "models/layers/patches.h"
#include "parallel/engine/dtypes.h"
#include "parallel/engine/parameter_store.h"

namespace weft {
namespace {

// Numbers that look random, without a generator.
at::Tensor Numbers(std::vector<int64_t> sizes, double phase, at::ScalarType type = at::kDouble) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return at::arange(n, at::kDouble).mul(0.7 + phase).sin().mul(3).view(sizes).to(type);
}

struct Store {
  Store(const std::vector<ParamSpec>& specs, Precision precision)
      : context(ParallelOptions{}), store(specs, precision, &context) {
    store.Initialize(1);
  }
  ParallelContext context;
  ParameterStore store;
};

TEST(LinearTest, GradientsMatchAutograd) {
  for (const bool transposed : {false, true}) {
    Store s({ParamSpec{"w", transposed ? std::vector<int64_t>{5, 7} : std::vector<int64_t>{7, 5},
                       Init::Normal(1)},
             ParamSpec{"b", {7}, Init::Normal(1)}},
            FP64);
    const Linear linear(s.store.Get("w"), s.store.Get("b"),
                        transposed ? WeightLayout::kInOut : WeightLayout::kOutIn);
    const at::Tensor x = Numbers({2, 3, 5}, 0.1).set_requires_grad(true);
    const at::Tensor dy = Numbers({2, 3, 7}, 0.2);
    const at::Tensor w = s.store.Get("w")->value.clone().set_requires_grad(true);
    const at::Tensor b = s.store.Get("b")->value.clone().set_requires_grad(true);
    const at::Tensor expected = at::matmul(x, transposed ? w : w.t()) + b;
    const auto reference = torch::autograd::grad({expected}, {x, w, b}, {dy});
    const at::Tensor y = linear(x);
    EXPECT_TRUE(at::allclose(y, expected, 1e-14, 1e-14));
    const auto grads = torch::autograd::grad({y}, {x}, {dy});
    EXPECT_TRUE(at::allclose(grads[0], reference[0], 1e-13, 1e-13));
    EXPECT_TRUE(at::allclose(s.store.Get("w")->main_grad, reference[1], 1e-13, 1e-13));
    EXPECT_TRUE(at::allclose(s.store.Get("b")->main_grad, reference[2], 1e-13, 1e-13));
  }
}

TEST(LinearTest, TheWeightGetsItsGradientWhereTheInputWantsNone) {
  Store s({ParamSpec{"w", {3, 4}, Init::Normal(1)}}, FP64);
  Parameter* w = s.store.Get("w");
  const at::Tensor y = Linear(w, nullptr)(Numbers({2, 4}, 0.3));
  torch::autograd::grad({y}, {w->anchor}, {at::ones_like(y)}, false, false, true);
  EXPECT_GT(w->main_grad.abs().sum().item<double>(), 0);
}

TEST(LinearTest, FrozenWeightsPassTheGradientOn) {
  ParamSpec spec{"w", {3, 4}, Init::Normal(1)};
  spec.trainable = false;
  Store s({spec}, FP64);
  const at::Tensor x = Numbers({2, 4}, 0.3).set_requires_grad(true);
  const at::Tensor y = Linear(s.store.Get("w"), nullptr)(x);
  const auto grads = torch::autograd::grad({y}, {x}, {at::ones_like(y)});
  EXPECT_TRUE(at::allclose(grads[0], at::matmul(at::ones_like(y), s.store.Get("w")->value)));
  EXPECT_FALSE(s.store.Get("w")->main_grad.defined());
  EXPECT_FALSE(Linear(s.store.Get("w"), nullptr)(x.detach()).requires_grad());
}

TEST(LinearTest, Bf16AddsTheBiasGradientInFp32) {
  ParamSpec bias{"b", {3}, Init::Constant(0)};
  Store s({ParamSpec{"w", {3, 4}, Init::Normal(1)}, bias}, BF16);
  const at::Tensor x = at::ones({1000, 4}, at::kBFloat16).set_requires_grad(true);
  const at::Tensor y = Linear(s.store.Get("w"), s.store.Get("b"))(x);
  torch::autograd::grad({y}, {x}, {at::ones_like(y)});
  // A sum in bf16 would stop at 256.
  EXPECT_EQ(s.store.Get("b")->main_grad[1].item<float>(), 1000);
}

TEST(EmbeddingTest, AddsRowsOfRepeatedIds) {
  Store s({ParamSpec{"t", {6, 3}, Init::Normal(1)}}, FP64);
  Parameter* table = s.store.Get("t");
  const at::Tensor ids = at::tensor({2, 0, 2, 5}, at::kInt).view({2, 2});
  const at::Tensor y = Embedding(table)(ids);
  EXPECT_TRUE(at::equal(y[1][0], table->value[2]));
  const at::Tensor dy = Numbers({2, 2, 3}, 0.4);
  torch::autograd::grad({y}, {table->anchor}, {dy}, false, false, true);
  EXPECT_TRUE(at::equal(table->main_grad[2], dy[0][0] + dy[1][0]));
  EXPECT_TRUE(at::equal(table->main_grad[5], dy[1][1]));
  EXPECT_EQ(table->main_grad[1].abs().sum().item<double>(), 0);
}

TEST(QuickGeluTest, MatchesItsFormulaInEveryType) {
  const at::Tensor wide = Numbers({37, 53}, 0.5).mul(4);
  const at::Tensor dy = Numbers({37, 53}, 0.6);
  const std::pair<at::ScalarType, double> cases[] = {
      {at::kDouble, 1e-14}, {at::kFloat, 2e-6}, {at::kBFloat16, 0.01}};
  for (const auto& [type, tolerance] : cases) {
    const at::Tensor x = wide.to(type).set_requires_grad(true);
    const at::Tensor exact = x.detach().to(at::kDouble).set_requires_grad(true);
    const at::Tensor expected = exact * at::sigmoid(1.702 * exact);
    const at::Tensor g = dy.to(type);
    const auto reference = torch::autograd::grad({expected}, {exact}, {g.to(at::kDouble)});
    const at::Tensor y = QuickGelu(x);
    const auto grads = torch::autograd::grad({y}, {x}, {g});
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), expected, tolerance, tolerance)) << type;
    EXPECT_TRUE(at::allclose(grads[0].to(at::kDouble), reference[0], tolerance, tolerance)) << type;
  }
  const at::Tensor edge = QuickGelu(at::tensor({-1e30, 1e30, std::nan("")}, at::kFloat));
  EXPECT_LT(edge[0].abs().item<float>(), 1e-7);
  EXPECT_EQ(edge[1].item<float>(), 1e30f);
  EXPECT_TRUE(std::isnan(edge[2].item<float>()));
  EXPECT_TRUE(std::isnan(QuickGelu(at::full({64}, std::nan(""), at::kBFloat16))[3].item<float>()));
}

// The part between the projections.
TEST(AttentionTest, MatchesAutogradInEveryType) {
  for (const Precision precision : {FP64, FP32, BF16}) {
    const double tolerance = precision == FP64 ? 1e-12 : precision == FP32 ? 2e-6 : 0.03;
    for (const bool causal : {false, true}) {
      const at::ScalarType type = ComputeType(precision);
      const at::Tensor qkv =
          Numbers({3, 19, 3, 2, 6}, 0.9).mul(0.4).to(type).set_requires_grad(true);
      const at::Tensor dy = Numbers({3, 19, 2, 6}, 0.95).to(type);
      const at::Tensor exact = qkv.detach().to(at::kDouble).set_requires_grad(true);
      const auto parts = exact.permute({2, 0, 3, 1, 4}).unbind(0);
      at::Tensor scores = at::matmul(parts[0], parts[1].transpose(2, 3)) / std::sqrt(6.0);
      if (causal) scores = scores.masked_fill(at::ones({19, 19}, at::kBool).triu(1), -INFINITY);
      const at::Tensor expected = at::matmul(at::softmax(scores, 3), parts[2]).transpose(1, 2);
      const auto reference = torch::autograd::grad({expected}, {exact}, {dy.to(at::kDouble)});
      const at::Tensor y = AttendHeads(qkv, causal);
      const auto grads = torch::autograd::grad({y}, {qkv}, {dy});
      EXPECT_TRUE(at::allclose(y.to(at::kDouble), expected, tolerance, tolerance))
          << precision << causal;
      const at::Tensor error =
          (grads[0].to(at::kDouble) - reference[0]).abs().max() / reference[0].abs().max();
      EXPECT_LT(error.item<double>(), tolerance) << precision << causal;
    }
  }
}

TEST(PatchesTest, ProjectionIsTheConvolution) {
  const at::Tensor pixels = Numbers({2, 3, 8, 12}, 0.7).narrow(3, 0, 8).contiguous();
  const at::Tensor weight = Numbers({5, 3, 4, 4}, 0.8);
  const at::Tensor rows = at::matmul(Patches(pixels, 4, {}, at::kDouble), weight.flatten(1).t());
  const at::Tensor conv = at::conv2d(pixels, weight, {}, {4, 4}).flatten(2).transpose(1, 2);
  EXPECT_TRUE(at::allclose(rows, conv, 1e-12, 1e-12));
}

TEST(PatchesTest, NormalisesBytes) {
  const at::Tensor pixels = at::full({1, 3, 2, 2}, 128, at::kByte);
  PixelNorm norm;
  const at::Tensor row = Patches(pixels, 2, norm, at::kDouble).flatten();
  for (int64_t c = 0; c < 3; ++c) {
    const auto i = static_cast<size_t>(c);
    EXPECT_NEAR(row[4 * c].item<double>(), (128 / 255.0 - norm.mean[i]) / norm.std[i], 1e-12);
  }
}

}  // namespace
}  // namespace weft
