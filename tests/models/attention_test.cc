// General attention, norms, activations and rotary positions against autograd in fp64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "models/layers/activation.h"
#include "models/layers/attention.h"
#include "models/layers/rms_norm.h"
#include "models/layers/rope.h"
#include "tests/models/tensor_fixture.h"

namespace weft::testing {
namespace {

struct Case {
  const char* name;
  int64_t t = 0;
  int64_t kv = 0;
  bool causal = false;
  bool mask = false;
  double dropout = 0;
  bool segments = false;
};

constexpr int64_t kSamples = 3;
constexpr int64_t kQueries = 6;
constexpr int64_t kHeads = 4;
constexpr int64_t kWidth = 5;
constexpr int64_t kMost = 9;

at::Tensor KeyMask(int64_t t) {
  at::Tensor mask = at::ones({kSamples, t}, at::kByte);
  mask[1].narrow(0, t - 2, 2).zero_();
  return mask;
}

// Segments of several lengths, padding at the end, and a row that is one segment.
at::Tensor SegmentAt() {
  return at::tensor({0, 0, 2, 2, 2, 5, 0, 0, 0, 3, 4, 5, 0, 0, 0, 0, 0, 0}, at::kInt)
      .view({kSamples, kQueries});
}

AttendOptions OptionsOf(const Case& c) {
  AttendOptions options;
  if (c.segments) options.segment_at = SegmentAt();
  options.causal = c.causal;
  options.dropout = {c.dropout, 77};
  options.first_row = 20;
  options.first_head = 4;
  options.most_tokens = kMost;
  return options;
}

at::Tensor Reference(const Case& c, const std::vector<at::Tensor>& qkv) {
  const int64_t group = kHeads / c.kv;
  const auto heads = [&](const at::Tensor& x) {
    return x.transpose(1, 2).repeat_interleave(kHeads / x.size(2), 1);
  };
  at::Tensor scores =
      at::matmul(heads(qkv[0]), heads(qkv[1]).transpose(2, 3)) / std::sqrt(double(kWidth));
  if (c.causal)
    scores = scores.masked_fill(at::ones({kQueries, c.t}, at::kBool).triu(1), -INFINITY);
  if (c.mask)
    scores = scores.masked_fill(KeyMask(c.t).eq(0).view({kSamples, 1, 1, c.t}), -INFINITY);
  if (c.segments) {
    const at::Tensor other = at::arange(c.t, at::kInt).lt(SegmentAt().unsqueeze(2));
    scores = scores.masked_fill(other.unsqueeze(1), -INFINITY);
  }
  EXPECT_EQ(group * c.kv, kHeads);
  const AttendOptions options = OptionsOf(c);
  const at::Tensor mask =
      DropoutMasked(at::ones({kSamples, kHeads, kQueries, c.t}, at::kDouble), options.dropout,
                    HeadRuns(20, kHeads, 4, kQueries, c.t, kMost));
  return at::matmul(at::softmax(scores, 3) * mask, heads(qkv[2])).transpose(1, 2);
}

TEST(AttendTest, MatchesAutograd) {
  const Case cases[] = {
      {"plain", 6, 4, false, false, 0},         {"causal", 6, 4, true, false, 0},
      {"masked", 6, 4, false, true, 0},         {"grouped", 6, 2, true, true, 0},
      {"one kv head", 6, 1, false, false, 0},   {"cross", 9, 4, false, true, 0},
      {"dropout", 6, 4, true, true, 0.3},       {"grouped cross dropout", 8, 2, false, true, 0.3},
      {"segments", 6, 2, true, false, 0, true}, {"segments dropout", 6, 4, true, false, 0.3, true},
  };
  for (const Case& c : cases) {
    const std::vector<at::Tensor> exact = {
        Numbers({kSamples, kQueries, kHeads, kWidth}, 0.1).mul(0.5).set_requires_grad(true),
        Numbers({kSamples, c.t, c.kv, kWidth}, 0.2).mul(0.5).set_requires_grad(true),
        Numbers({kSamples, c.t, c.kv, kWidth}, 0.3).set_requires_grad(true)};
    const at::Tensor expected = Reference(c, exact);
    const at::Tensor dy = Numbers({kSamples, kQueries, kHeads, kWidth}, 0.4);
    const auto reference = torch::autograd::grad({expected}, exact, {dy});
    const std::pair<at::ScalarType, double> types[] = {
        {at::kDouble, 1e-14}, {at::kFloat, 1e-6}, {at::kBFloat16, 0.02}};
    for (const auto& [type, tolerance] : types) {
      std::vector<at::Tensor> qkv;
      for (const at::Tensor& x : exact)
        qkv.push_back(x.detach().to(type).clone().set_requires_grad(true));
      const at::Tensor mask = c.mask ? KeyMask(c.t) : at::Tensor();
      const at::Tensor y = Attend(qkv[0], qkv[1], qkv[2], mask, OptionsOf(c));
      const auto grads = torch::autograd::grad({y}, qkv, {dy.to(type)});
      EXPECT_LT(RelativeError(y, expected), tolerance) << c.name << " " << type;
      for (size_t i = 0; i < 3; ++i)
        EXPECT_LT(RelativeError(grads[i], reference[i]), tolerance) << c.name << " " << type << i;
    }
  }
}

TEST(AttendTest, AQueryWithoutKeysGivesZeros) {
  const at::Tensor q = Numbers({2, 3, 1, 2}, 0.1).set_requires_grad(true);
  const at::Tensor mask = at::zeros({2, 3}, at::kByte);
  const at::Tensor y = Attend(q, q, q, mask, {});
  EXPECT_EQ(y.abs().sum().item<double>(), 0);
  const at::Tensor dq = torch::autograd::grad({y}, {q}, {at::ones_like(y)})[0];
  EXPECT_EQ(dq.abs().sum().item<double>(), 0);
}

TEST(AttendTest, SegmentsAgainFromTheirInputsHaveTheSameBits) {
  const Case c = {"segments", 6, 2, true, false, 0.3, true};
  const at::Tensor dy = Numbers({kSamples, kQueries, kHeads, kWidth}, 0.4);
  std::vector<at::Tensor> results[2];
  for (const bool recompute : {false, true}) {
    const std::vector<at::Tensor> qkv = {
        Numbers({kSamples, kQueries, kHeads, kWidth}, 0.1).set_requires_grad(true),
        Numbers({kSamples, c.t, c.kv, kWidth}, 0.2).set_requires_grad(true),
        Numbers({kSamples, c.t, c.kv, kWidth}, 0.3).set_requires_grad(true)};
    AttendOptions options = OptionsOf(c);
    options.recompute = recompute;
    results[recompute] =
        torch::autograd::grad({Attend(qkv[0], qkv[1], qkv[2], {}, options)}, qkv, {dy});
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(results[0][i], results[1][i])) << i;
}

TEST(AttendTest, SegmentBoundsTakePaddingToTheSegmentBeforeIt) {
  EXPECT_EQ(CountSegments(SegmentAt()), 4);
  EXPECT_TRUE(at::equal(SegmentBounds(SegmentAt(), 4), at::tensor({0, 2, 6, 12, 18}, at::kInt)));
  // A row without a conversation is one of its own.
  const at::Tensor empty = at::arange(4, at::kInt).expand({2, 4});
  EXPECT_EQ(CountSegments(empty), 2);
  EXPECT_TRUE(at::equal(SegmentBounds(empty, 2), at::tensor({0, 4, 8}, at::kInt)));
}

TEST(RmsNormTest, MatchesAutogradInEveryType) {
  ParamSpec spec{"g.weight", {8}, Init::Constant(1)};
  spec.keep_fp32 = true;
  for (const Precision precision : {FP64, FP32, BF16}) {
    const double tolerance = precision == FP64 ? 1e-14 : precision == FP32 ? 1e-6 : 0.01;
    TensorRank rank({spec}, {}, precision);
    Parameter* weight = rank.store.Get("g.weight");
    const at::ScalarType type = precision == FP64   ? at::kDouble
                                : precision == FP32 ? at::kFloat
                                                    : at::kBFloat16;
    const at::Tensor x = Numbers({3, 5, 8}, 0.1, type).set_requires_grad(true);
    const at::Tensor dy = Numbers({3, 5, 8}, 0.2, type);
    const at::Tensor exact = x.detach().to(at::kDouble).set_requires_grad(true);
    const at::Tensor w = weight->value.detach().to(at::kDouble).clone().set_requires_grad(true);
    const at::Tensor expected = exact * at::rsqrt(exact.square().mean({-1}, true) + 1e-5) * w;
    const auto reference = torch::autograd::grad({expected}, {exact, w}, {dy.to(at::kDouble)});
    const at::Tensor y = RmsNorm(weight, 1e-5)(x);
    EXPECT_EQ(y.scalar_type(), type);
    const at::Tensor dx = rank.Backward({y}, {x}, {dy})[0];
    EXPECT_LT(RelativeError(y, expected), tolerance);
    EXPECT_LT(RelativeError(dx, reference[0]), tolerance);
    EXPECT_LT(RelativeError(weight->main_grad, reference[1]), tolerance);
  }
}

TEST(AttentionTest, FusedCausalAgreesWhereSomebodyReads) {
  // Two tokens of padding end sample 1; nobody reads what their queries get, so their dy is zero.
  const at::Tensor q = Numbers({kSamples, kQueries, kHeads, kWidth}, 0.1).set_requires_grad(true);
  const at::Tensor k = Numbers({kSamples, kQueries, 2, kWidth}, 0.2).set_requires_grad(true);
  const at::Tensor v = Numbers({kSamples, kQueries, 2, kWidth}, 0.3).set_requires_grad(true);
  const at::Tensor mask = KeyMask(kQueries);
  const at::Tensor read = mask.to(at::kDouble).view({kSamples, kQueries, 1, 1});
  const at::Tensor dy = Numbers({kSamples, kQueries, kHeads, kWidth}, 0.4) * read;
  AttendOptions options;
  options.causal = true;
  options.padding_last = true;
  const at::Tensor expected = Attend(q, k, v, mask, options);
  const at::Tensor fused = AttendCausalFused(q, k, v);
  EXPECT_LT(RelativeError(fused * read, expected * read), 1e-14);
  const auto reference = torch::autograd::grad({expected}, {q, k, v}, {dy});
  const auto grads = torch::autograd::grad({fused}, {q, k, v}, {dy});
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(RelativeError(grads[i], reference[i]), 1e-13) << i;
}

TEST(ActivationTest, SiluTimesAndGeluMatchTheirFormulas) {
  const at::Tensor a = Numbers({4, 9}, 0.1).set_requires_grad(true);
  const at::Tensor b = Numbers({4, 9}, 0.2).set_requires_grad(true);
  const at::Tensor dy = Numbers({4, 9}, 0.3);
  const at::Tensor expected = a * at::sigmoid(a) * b;
  const auto reference = torch::autograd::grad({expected}, {a, b}, {dy});
  const at::Tensor y = SiluTimes(a, b);
  const auto grads = torch::autograd::grad({y}, {a, b}, {dy});
  EXPECT_LT(RelativeError(y, expected), 1e-15);
  EXPECT_LT(RelativeError(grads[0], reference[0]), 1e-14);
  EXPECT_LT(RelativeError(grads[1], reference[1]), 1e-15);
  EXPECT_LT(RelativeError(SiluTimes(a.to(at::kBFloat16), b.to(at::kBFloat16)), expected), 0.01);
  EXPECT_LT(RelativeError(Gelu(a), a * (1 + at::erf(a / std::sqrt(2.0))) / 2), 1e-15);
}

TEST(RopeTest, PositionsOfASegmentCountFromItsBegin) {
  const at::Tensor x = Numbers({3, 6, 2, 4}, 0.1).set_requires_grad(true);
  const at::Tensor y = Rotate(x, 100, SegmentAt());
  // Row 0 is segments of 2, 3 and 1 tokens, row 2 one of 6.
  EXPECT_TRUE(at::equal(y[0].narrow(0, 2, 3), Rotate(x.narrow(1, 2, 3), 100)[0]));
  EXPECT_TRUE(at::equal(y[0][5], x[0][5]));
  EXPECT_TRUE(at::equal(y[2], Rotate(x, 100)[2]));
  EXPECT_LT(RelativeError(torch::autograd::grad({y}, {x}, {y.detach()})[0], x), 1e-14);
}

TEST(RopeTest, TurnsPairsOfTheTwoHalves) {
  const at::Tensor x = Numbers({2, 4, 3, 6}, 0.1).set_requires_grad(true);
  const at::Tensor y = Rotate(x, 100);
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(t) * std::pow(100, -static_cast<double>(i) / 3);
      const double u = x[1][t][2][i].item<double>();
      const double v = x[1][t][2][i + 3].item<double>();
      EXPECT_NEAR(y[1][t][2][i].item<double>(), u * std::cos(angle) - v * std::sin(angle), 1e-14);
      EXPECT_NEAR(y[1][t][2][i + 3].item<double>(), v * std::cos(angle) + u * std::sin(angle),
                  1e-14);
    }
  }
  // A rotation's gradient is the rotation back: of y itself, x.
  EXPECT_LT(RelativeError(torch::autograd::grad({y}, {x}, {y.detach()})[0], x), 1e-14);
}

}  // namespace
}  // namespace weft::testing
