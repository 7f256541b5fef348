// One transformer block on many tensor-parallel ranks against one rank, in fp64: outputs, gradients of inputs and
// parameters, with and without sequence parallelism and dropout, in the forms that CLIP, RoBERTa and LLaMA have.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/layers/transformer_block.h"
#include "models/spec/param_list.h"
#include "parallel/tensor/collectives.h"
#include "tests/models/tensor_fixture.h"
#include "tests/support/thread_world.h"

namespace weft::testing {
namespace {

constexpr int64_t kSamples = 3;
constexpr int64_t kTokens = 5;  // 15 rows: no even split
constexpr int64_t kWidth = 32;
constexpr int64_t kFeatures = 51;
constexpr int64_t kHeads = 8;
constexpr int64_t kKvHeads = 2;

struct Form {
  std::string name;
  TransformerOptions options;
};

Form ClipForm() {
  Form form{"clip", {}};
  form.options.causal = true;
  return form;
}

Form RobertaForm() {
  Form form{"roberta", {}};
  TransformerOptions& o = form.options;
  o.names = {"norm1", "", "q", "k", "v", "out", "norm2", "up", "", "down"};
  o.key_mask = true;
  o.norm_place = NormPlace::kAfter;
  o.activation = Activation::kGelu;
  return form;
}

Form LlamaForm() {
  Form form{"llama", {}};
  TransformerOptions& o = form.options;
  o.names = {"norm1", "", "q", "k", "v", "out", "norm2", "up", "gate", "down"};
  o.kv_heads = kKvHeads;
  o.causal = true;
  o.key_mask = true;
  o.norm = NormKind::kRmsNorm;
  o.activation = Activation::kSwiGlu;
  o.rope_theta = 1e4;
  return form;
}

BlockSpec SpecOf(const Form& form) {
  const TransformerOptions& o = form.options;
  BlockSpec block;
  block.name = "b";
  block.inputs = {{"x", {kTokens, kWidth}}, {"mask", {kTokens}, false}};
  ParamList params(&block, [](const ParamSpec&) { return true; });
  const Init zero = Init::Constant(0);
  const LinearInit biased{zero, zero};
  const LinearInit bare{zero, std::nullopt};
  if (form.name == "llama") {
    const int64_t d = kWidth / kHeads;
    params.RmsNorm("b.norm1", kWidth, NormRows::kOwn);
    params.Column("b.q", kWidth, kWidth, kHeads, bare);
    params.Column("b.k", kKvHeads * d, kWidth, kKvHeads, bare);
    params.Column("b.v", kKvHeads * d, kWidth, kKvHeads, bare);
    params.Row("b.out", kWidth, kWidth, kHeads, bare);
    params.RmsNorm("b.norm2", kWidth, NormRows::kOwn);
    params.Column("b.gate", kFeatures, kWidth, 0, bare);
    params.Column("b.up", kFeatures, kWidth, 0, bare);
    params.Row("b.down", kWidth, kFeatures, 0, bare);
    return block;
  }
  params.LayerNorm("b." + o.names.norm_1, kWidth, NormRows::kOwn);
  if (o.names.qkv.empty()) {
    for (const char* name : {"b.q", "b.k", "b.v"})
      params.Column(name, kWidth, kWidth, kHeads, biased);
  } else {
    for (const std::string part : {"weight", "bias"}) {
      std::vector<int64_t> shape = {3 * kWidth};
      if (part == "weight") shape.push_back(kWidth);
      ParamSpec& spec = params.Add("b." + o.names.qkv + "_" + part, shape, zero);
      spec.tp_dim = 0;
      spec.tp_sections = 3;
      spec.tp_units = kHeads;
    }
  }
  params.Row("b." + o.names.out, kWidth, kWidth, kHeads, biased);
  params.LayerNorm("b." + o.names.norm_2, kWidth, NormRows::kOwn);
  params.Column("b." + o.names.up, kFeatures, kWidth, 0, biased);
  params.Row("b." + o.names.down, kWidth, kFeatures, 0, biased);
  return block;
}

struct Result {
  at::Tensor y;
  at::Tensor dx;
  std::map<std::string, at::Tensor> gradients;
};

// Forward and backward of one micro-batch; y and dx are this rank's rows.
Result RunBlock(const Form& form, double dropout, bool recompute, TensorRank* rank) {
  Form dropped = form;
  dropped.options.heads = kHeads;
  dropped.options.attention_dropout = dropout;
  dropped.options.hidden_dropout = dropout;
  dropped.options.drop_path = 2 * dropout;
  TransformerBlock block(SpecOf(form), dropped.options, rank->axis, &rank->store);
  MicroBatchContext context;
  context.seed = 3;
  context.step = 7;
  context.wave = "main";
  context.first_row = 12;
  context.samples = kSamples;
  context.selective_recompute = recompute;

  at::Tensor x = Numbers({kSamples, kTokens, kWidth}, 0.1).mul(0.3);
  at::Tensor dy = Numbers({kSamples, kTokens, kWidth}, 0.4);
  if (rank->axis.sequence) {
    x = OwnRowsOf(x.flatten(0, 1), rank->axis);
    dy = OwnRowsOf(dy.flatten(0, 1), rank->axis);
  }
  x.set_requires_grad(true);
  at::Tensor mask = at::ones({kSamples, kTokens}, at::kByte);
  mask[1].narrow(0, 3, 2).zero_();
  const std::vector<at::Tensor> inputs = {x, mask};
  Result result;
  const at::Tensor y = block.Forward(inputs, context)[0];
  result.dx = rank->Backward({y}, {x}, {dy})[0];
  result.y = y.detach();
  result.gradients = rank->Gradients();
  return result;
}

void CheckRank(const Form& form, double dropout, const TensorAxis& axis, const Result& expected) {
  const std::string where = form.name + ", " + std::to_string(axis.size) + " ranks" +
                            (axis.sequence ? ", sequence" : "") + ", dropout " +
                            std::to_string(dropout);
  TensorRank rank(SpecOf(form).params, axis, FP64, 3);
  const Result got = RunBlock(form, dropout, /*recompute=*/axis.rank % 2 == 1, &rank);
  const auto own = [&](const at::Tensor& x) {
    return axis.sequence ? OwnRowsOf(x.flatten(0, 1), axis) : x;
  };
  EXPECT_LT(RelativeError(got.y, own(expected.y)), 1e-12) << where;
  EXPECT_LT(RelativeError(got.dx, own(expected.dx)), 1e-12) << where;
  for (const ParamSpec& spec : rank.specs) {
    const at::Tensor slice = rank.SliceOf(spec, expected.gradients.at(spec.name));
    const at::Tensor& grad = got.gradients.at(spec.name);
    // A key's bias moves no probability: its gradient is rounding.
    if (slice.norm().item<double>() < 1e-12) {
      EXPECT_LT(grad.norm().item<double>(), 1e-11) << where << " " << spec.name;
    } else {
      EXPECT_LT(RelativeError(grad, slice), 1e-12) << where << " " << spec.name;
    }
  }
}

class TensorBlockTest : public ::testing::TestWithParam<int> {};

TEST_P(TensorBlockTest, EveryFormEqualsOneRank) {
  for (const Form& form : {ClipForm(), RobertaForm(), LlamaForm()}) {
    for (const double dropout : {0.0, 0.1}) {
      TensorRank alone(SpecOf(form).params, {}, FP64, 3);
      const Result expected = RunBlock(form, dropout, false, &alone);
      const Status status = ThreadWorld(GetParam(), [&](Communicator& comm) {
        for (const bool sequence : {false, true})
          CheckRank(form, dropout, AxisOf(comm, sequence), expected);
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

// Cross-attention from 15 rows to the 21 of another modality.
constexpr int64_t kMemoryTokens = 7;

struct CrossResult {
  at::Tensor y;
  std::vector<at::Tensor> grads;
  std::map<std::string, at::Tensor> gradients;
};

CrossResult RunCross(const std::vector<at::Tensor>& whole, TensorRank* rank) {
  const auto layer = [&](const char* name) {
    return LinearOf(std::string("b.") + name, &rank->store);
  };
  AttentionOptions options;
  options.site = "b.cross";
  options.heads = kHeads;
  options.kv_heads = kHeads;
  options.dropout = 0.1;
  options.most_tokens = kMemoryTokens;
  const AttentionLayer attention({{}, layer("q"), layer("k"), layer("v"), layer("out")}, options,
                                 rank->axis);
  std::vector<at::Tensor> own;
  for (const at::Tensor& x : whole)
    own.push_back(rank->axis.sequence ? OwnRowsOf(x.flatten(0, 1), rank->axis) : x.clone());
  own[0].set_requires_grad(true);
  own[1].set_requires_grad(true);
  MicroBatchContext context;
  context.samples = kSamples;
  const at::Tensor y = attention.Cross(
      {own[0], TokenRows(kSamples, kTokens, rank->axis), {}},
      {own[1], TokenRows(kSamples, kMemoryTokens, rank->axis), at::ones({kSamples, kMemoryTokens})},
      context);
  CrossResult result;
  result.grads = rank->Backward({y}, {own[0], own[1]}, {own[2]});
  result.y = y.detach();
  result.gradients = rank->Gradients();
  return result;
}

TEST_P(TensorBlockTest, CrossAttentionEqualsOneRank) {
  const std::vector<ParamSpec> specs = SpecOf(RobertaForm()).params;
  const std::vector<at::Tensor> whole = {Numbers({kSamples, kTokens, kWidth}, 0.1).mul(0.3),
                                         Numbers({kSamples, kMemoryTokens, kWidth}, 0.2).mul(0.3),
                                         Numbers({kSamples, kTokens, kWidth}, 0.4)};
  TensorRank alone(specs, {}, FP64, 3);
  const CrossResult expected = RunCross(whole, &alone);
  const Status status = ThreadWorld(GetParam(), [&](Communicator& comm) {
    for (const bool sequence : {false, true}) {
      TensorRank rank(specs, AxisOf(comm, sequence), FP64, 3);
      const auto own = [&](const at::Tensor& x) {
        return sequence ? OwnRowsOf(x.flatten(0, 1), rank.axis) : x;
      };
      const CrossResult got = RunCross(whole, &rank);
      EXPECT_LT(RelativeError(got.y, own(expected.y)), 1e-12);
      EXPECT_LT(RelativeError(got.grads[0], own(expected.grads[0])), 1e-12);
      EXPECT_LT(RelativeError(got.grads[1], own(expected.grads[1])), 1e-12);
      for (const char* name : {"b.q.weight", "b.k.weight", "b.v.bias", "b.out.weight"}) {
        const at::Tensor slice =
            rank.SliceOf(rank.store.Get(name)->spec, expected.gradients.at(name));
        EXPECT_LT(RelativeError(got.gradients.at(name), slice), 1e-12) << name;
      }
    }
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Ranks, TensorBlockTest, ::testing::Values(2, 4, 8));

TEST(TensorBlockTest, RecomputingProbabilitiesGivesEqualBits) {
  for (const Form& form : {ClipForm(), RobertaForm(), LlamaForm()}) {
    TensorRank kept_rank(SpecOf(form).params, {});
    TensorRank again_rank(SpecOf(form).params, {});
    const Result kept = RunBlock(form, 0.1, false, &kept_rank);
    const Result again = RunBlock(form, 0.1, true, &again_rank);
    EXPECT_TRUE(at::equal(kept.y, again.y)) << form.name;
    EXPECT_TRUE(at::equal(kept.dx, again.dx)) << form.name;
    for (const auto& [name, gradient] : kept.gradients)
      EXPECT_TRUE(at::equal(gradient, again.gradients.at(name))) << form.name << " " << name;
  }
}

// A test of dropout that cannot tell the ranks' masks apart would pass without one.
TEST(TensorBlockTest, DropoutChangesTheResult) {
  TensorRank a(SpecOf(ClipForm()).params, {});
  TensorRank b(SpecOf(ClipForm()).params, {});
  EXPECT_GT(
      RelativeError(RunBlock(ClipForm(), 0.1, false, &a).y, RunBlock(ClipForm(), 0.0, false, &b).y),
      1e-3);
}

}  // namespace
}  // namespace weft::testing
