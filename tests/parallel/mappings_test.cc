// The borders of tensor-parallel regions: ranks as threads against what one rank computes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "parallel/tensor/collectives.h"
#include "parallel/tensor/comm_error.h"
#include "parallel/tensor/mappings.h"
#include "tests/support/thread_world.h"

namespace weft::testing {
namespace {

constexpr int64_t kWidth = 3;

// Numbers that differ by rank, without a generator.
at::Tensor Numbers(int64_t rows, double phase, at::ScalarType type = at::kDouble) {
  return at::arange(rows * kWidth, at::kDouble)
      .add(1)
      .mul(0.37 + phase)
      .sin()
      .view({rows, kWidth})
      .to(type);
}

TensorAxis AxisOf(Communicator& comm) {
  return {&comm, comm.rank(), comm.size(), true, std::chrono::seconds(10)};
}

at::Tensor Own(const at::Tensor& x, const TensorAxis& axis) {
  const IndexRange range = OwnRows(x.size(0), axis);
  return x.narrow(0, range.offset, range.length);
}

// y and dx of mapping(x) with dy.
using Pair = std::pair<at::Tensor, at::Tensor>;
template <typename MappingFn>
Pair Differentiate(const at::Tensor& input, const at::Tensor& dy, MappingFn mapping) {
  const at::Tensor x = input.clone().set_requires_grad(true);
  const at::Tensor y = mapping(x);
  return {y.detach(), torch::autograd::grad({y}, {x}, {dy})[0]};
}

void ExpectClose(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_TRUE(at::allclose(a.to(at::kDouble), b.to(at::kDouble), 1e-13, 1e-13)) << what;
}

// All six on `rows` rows; each rank's input and gradient differ where the mapping says so.
void CheckAll(const TensorAxis& axis, int64_t rows) {
  const std::string where = std::to_string(axis.size) + " ranks, " + std::to_string(rows) + " rows";
  const auto of_rank = [&](int rank, double phase) { return Numbers(rows, phase + 0.1 * rank); };
  const auto sum = [&](double phase) {
    at::Tensor total = at::zeros({rows, kWidth}, at::kDouble);
    for (int rank = 0; rank < axis.size; ++rank) total += of_rank(rank, phase);
    return total;
  };
  const at::Tensor same = Numbers(rows, 0.2);
  const at::Tensor same_grad = Numbers(rows, 0.9);
  const at::Tensor mine = of_rank(axis.rank, 0.3);
  const at::Tensor my_grad = of_rank(axis.rank, 0.5);

  Pair got = Differentiate(same, my_grad, [&](auto x) { return CopyToTensor(x, axis, "copy"); });
  ExpectClose(got.first, same, "copy " + where);
  ExpectClose(got.second, sum(0.5), "copy backward " + where);

  got = Differentiate(mine, same_grad, [&](auto x) { return ReduceFromTensor(x, axis, "reduce"); });
  ExpectClose(got.first, sum(0.3), "reduce " + where);
  ExpectClose(got.second, same_grad, "reduce backward " + where);

  got = Differentiate(Own(same, axis), my_grad,
                      [&](auto x) { return GatherRows(x, rows, axis, "gather"); });
  ExpectClose(got.first, same, "gather " + where);
  ExpectClose(got.second, Own(sum(0.5), axis), "gather backward " + where);

  got = Differentiate(mine, Own(same_grad, axis),
                      [&](auto x) { return ScatterRows(x, axis, "scatter"); });
  ExpectClose(got.first, Own(sum(0.3), axis), "scatter " + where);
  ExpectClose(got.second, same_grad, "scatter backward " + where);

  got = Differentiate(same, Own(same_grad, axis),
                      [&](auto x) { return SplitRows(x, axis, "split"); });
  ExpectClose(got.first, Own(same, axis), "split " + where);
  ExpectClose(got.second, same_grad, "split backward " + where);

  got = Differentiate(Own(same, axis), same_grad,
                      [&](auto x) { return JoinRows(x, rows, axis, "join"); });
  ExpectClose(got.first, same, "join " + where);
  ExpectClose(got.second, Own(same_grad, axis), "join backward " + where);
}

TEST(MappingsTest, EveryNumberOfRanksAndRows) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const Status status = ThreadWorld(ranks, [&](Communicator& comm) {
      for (const int64_t rows : {0, 1, 3, 8, 13, 16}) CheckAll(AxisOf(comm), rows);
      return OkStatus();
    });
    ASSERT_TRUE(status.ok()) << status;
  }
}

TEST(MappingsTest, Bf16SumsRoundOnce) {
  const Status status = ThreadWorld(3, [&](Communicator& comm) {
    const at::Tensor x = at::full({4, kWidth}, comm.rank() == 0 ? 256.0 : 0.75, at::kBFloat16);
    // 256 + 0.75 + 0.75: in bf16, step by step, it would stay 256.
    EXPECT_EQ(ReduceFromTensor(x, AxisOf(comm), "reduce")[1][1].item<float>(), 258);
    EXPECT_EQ(ScatterRows(x, AxisOf(comm), "scatter").size(0), comm.rank() == 0 ? 2 : 1);
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << status;
}

TEST(MappingsTest, OneRankNeedsNoCommunicator) {
  const TensorAxis alone;
  const at::Tensor x = Numbers(3, 0.1);
  EXPECT_TRUE(GatherRows(x, 3, alone, "gather").is_same(x));
  EXPECT_TRUE(SplitRows(x, alone, "split").is_same(x));
}

TEST(MappingsTest, AFailureIsThrownWithTheOperationsName) {
  const Status status = ThreadWorld(2, [&](Communicator& comm) -> Status {
    if (comm.rank() == 1) return Unavailable("left on purpose");
    const at::Tensor x = Numbers(4, 0.1).set_requires_grad(true);
    try {
      ReduceFromTensor(x, AxisOf(comm), "block.3.attn");
    } catch (const CommError& error) {
      EXPECT_NE(error.status().message().find("block.3.attn.forward"), std::string::npos)
          << error.status();
      return OkStatus();
    }
    ADD_FAILURE() << "no exception";
    return OkStatus();
  });
  EXPECT_FALSE(status.ok());
}

}  // namespace
}  // namespace weft::testing
