// The split vocabulary: embedding and cross-entropy on many ranks, with 41 words that no number of ranks divides, against
// one rank and autograd.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/layers/embedding.h"
#include "models/losses/vocab_cross_entropy.h"
#include "tests/models/tensor_fixture.h"
#include "tests/support/thread_world.h"

namespace weft::testing {
namespace {

constexpr int64_t kWords = 41;
constexpr int64_t kWidth = 6;

std::vector<ParamSpec> Specs() {
  ParamSpec table{"words.weight", {kWords, kWidth}, Init::Constant(0)};
  table.tp_dim = 0;
  table.padding_row = 1;
  ParamSpec bias{"words.bias", {kWords}, Init::Constant(0)};
  bias.tp_dim = 0;
  return {table, bias};
}

at::Tensor Labels() { return at::tensor({5, -100, 40, 0, -100, 22, 5}, at::kLong); }

struct Result {
  at::Tensor y;
  at::Tensor dx;
  std::map<std::string, at::Tensor> gradients;
};

Result RunLoss(const CrossEntropyOptions& options, TensorRank* rank, const at::Tensor& labels) {
  const VocabCrossEntropy loss({rank->store.Get("words.weight"), rank->store.Get("words.bias")},
                               rank->axis, options);
  const at::Tensor hidden = Numbers({labels.numel(), kWidth}, 0.2).set_requires_grad(true);
  Result result;
  result.y = loss(hidden, labels);
  result.dx = rank->Backward({result.y}, {hidden}, {at::full({}, 0.7, at::kDouble)})[0];
  result.gradients = rank->Gradients();
  return result;
}

// The same by autograd on whole logits.
Result Reference(const CrossEntropyOptions& options, TensorRank* rank) {
  const at::Tensor hidden = Numbers({Labels().numel(), kWidth}, 0.2).set_requires_grad(true);
  const auto leaf = [&](const std::string& name) {
    return rank->store.Get(name)->value.detach().clone().set_requires_grad(true);
  };
  const at::Tensor w = leaf("words.weight");
  const at::Tensor b = leaf("words.bias");
  const at::Tensor logits = at::matmul(hidden, w.t()) + b;
  const at::Tensor lse = at::logsumexp(logits, {1});
  at::Tensor sum = at::cross_entropy_loss(logits, Labels(), {}, at::Reduction::Sum, -100,
                                          options.label_smoothing);
  sum = sum + options.z_loss * (lse.square() * Labels().ne(-100)).sum();
  const auto grads = torch::autograd::grad({sum}, {hidden, w, b}, {at::full({}, 0.7, at::kDouble)});
  return {sum, grads[0], {{"words.weight", grads[1]}, {"words.bias", grads[2]}}};
}

void ExpectNear(const Result& got, const Result& expected, const TensorRank& rank) {
  EXPECT_LT(RelativeError(got.y, expected.y), 1e-13) << rank.axis.size;
  EXPECT_LT(RelativeError(got.dx, expected.dx), 1e-13) << rank.axis.size;
  for (const ParamSpec& spec : rank.specs) {
    EXPECT_LT(RelativeError(got.gradients.at(spec.name),
                            rank.SliceOf(spec, expected.gradients.at(spec.name))),
              1e-13)
        << rank.axis.size << " " << spec.name;
  }
}

TEST(VocabCrossEntropyTest, EqualsAutogradOnWholeLogits) {
  for (const CrossEntropyOptions& options :
       {CrossEntropyOptions{}, CrossEntropyOptions{-100, 0.1, 0},
        CrossEntropyOptions{-100, 0.1, 0.05}}) {
    TensorRank alone(Specs(), {}, FP64, 10);
    const Result expected = Reference(options, &alone);
    ExpectNear(RunLoss(options, &alone, Labels()), expected, alone);
    for (const int ranks : {2, 3, 8}) {
      const Status status = ThreadWorld(ranks, [&](Communicator& comm) {
        TensorRank rank(Specs(), AxisOf(comm, false), FP64, 10);
        ExpectNear(RunLoss(options, &rank, Labels()), expected, rank);
        return OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
    }
  }
}

TEST(VocabCrossEntropyTest, NoLabelsIsZero) {
  const Status status = ThreadWorld(2, [&](Communicator& comm) {
    TensorRank rank(Specs(), AxisOf(comm, false));
    const Result result = RunLoss({}, &rank, at::full({3}, -100, at::kLong));
    EXPECT_EQ(result.y.item<double>(), 0);
    EXPECT_EQ(result.dx.abs().sum().item<double>(), 0);
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << status;
}

TEST(VocabCrossEntropyTest, ALabelOutsideTheVocabularyIsRefused) {
  TensorRank rank(Specs(), {});
  EXPECT_THROW(RunLoss({}, &rank, at::full({2}, kWords, at::kLong)), c10::Error);
}

TEST(VocabCrossEntropyTest, Bf16ComputesTheLossInFp32) {
  TensorRank exact(Specs(), {}, FP64, 10);
  TensorRank rank(Specs(), {}, BF16, 10);
  const VocabCrossEntropy loss({rank.store.Get("words.weight"), rank.store.Get("words.bias")}, {});
  const at::Tensor hidden = Numbers({7, kWidth}, 0.2, at::kBFloat16).set_requires_grad(true);
  const at::Tensor y = loss(hidden, Labels());
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  const Result expected = RunLoss({}, &exact, Labels());
  EXPECT_LT(RelativeError(y, expected.y), 0.01);
  rank.Backward({y}, {hidden}, {at::full({}, 0.7f)});
  EXPECT_LT(RelativeError(rank.store.Get("words.weight")->main_grad,
                          expected.gradients.at("words.weight")),
            0.02);
}

// Ids with repetitions, placeholders outside the table, and the padding row 1.
at::Tensor Ids() { return at::tensor({0, 40, 7, -200, 7, 1, 41, 22}, at::kInt).view({2, 4}); }

TEST(VocabEmbeddingTest, EveryNumberOfRanksEqualsOne) {
  TensorRank alone(Specs(), {});
  const at::Tensor dy = Numbers({2, 4, kWidth}, 0.4);
  const auto run = [&](TensorRank* rank) {
    const at::Tensor y = VocabEmbedding(rank->store.Get("words.weight"), rank->axis)(Ids());
    rank->Backward({y}, {}, {dy});
    return y.detach();
  };
  const at::Tensor expected = run(&alone);
  const at::Tensor table = alone.store.Get("words.weight")->value;
  const at::Tensor grad = alone.store.Get("words.weight")->main_grad;
  EXPECT_TRUE(at::equal(expected[0][1], table[40]));
  EXPECT_TRUE(at::equal(expected[1][1], table[1]));
  EXPECT_EQ(expected[0][3].abs().sum().item<double>(), 0);
  EXPECT_EQ(expected[1][2].abs().sum().item<double>(), 0);
  EXPECT_TRUE(at::equal(grad[7], dy[0][2] + dy[1][0]));
  EXPECT_EQ(grad[1].abs().sum().item<double>(), 0);
  for (const int ranks : {2, 3, 8}) {
    const Status status = ThreadWorld(ranks, [&](Communicator& comm) {
      TensorRank rank(Specs(), AxisOf(comm, false));
      EXPECT_TRUE(at::equal(run(&rank), expected));
      EXPECT_TRUE(
          at::equal(rank.store.Get("words.weight")->main_grad, rank.SliceOf(rank.specs[0], grad)));
      return OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace weft::testing
