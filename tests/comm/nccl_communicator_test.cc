// Links NCCL and the CUDA runtime, and runs what a machine allows: without a GPU versions, ids and refusals; with one GPU a
// communicator of one rank (NCCL refuses two on one GPU).
#include "cluster/comm/nccl_connect.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace weft {
namespace {

using ::testing::HasSubstr;

bool HasGpu() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

class NcclTest : public ::testing::Test {
 protected:
  // Bootstrap sockets of this machine only.
  void SetUp() override { setenv("NCCL_SOCKET_IFNAME", "lo", 1); }
};

TEST_F(NcclTest, Version) {
  const auto version = NcclVersion();
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_THAT(*version, ::testing::StartsWith("2."));
}

TEST_F(NcclTest, UniqueIdsDiffer) {
  const auto first = MakeNcclUniqueId();
  const auto second = MakeNcclUniqueId();
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(*first, *second);
}

TEST_F(NcclTest, NamesADeviceThatIsNotThere) {
  const auto communicator = ConnectNccl({.device = 1000});
  EXPECT_EQ(communicator.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(communicator.status().message(), HasSubstr("CUDA device 1000"));
}

TEST_F(NcclTest, OneRankDoesAllOperations) {
  if (!HasGpu()) GTEST_SKIP() << "no CUDA device";
  const auto id = MakeNcclUniqueId();
  ASSERT_TRUE(id.ok()) << id.status();
  auto made = ConnectNccl({.unique_id = *id});
  ASSERT_TRUE(made.ok()) << made.status();
  Communicator& comm = **made;

  const std::vector<float> values = {1, 2, 3, 4};
  const size_t bytes = values.size() * sizeof(float);
  void* a = nullptr;
  void* b = nullptr;
  ASSERT_EQ(cudaMalloc(&a, bytes), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&b, bytes), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(a, values.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);

  EXPECT_TRUE(comm.AllReduce(a, 4, DType::kFloat32, ReduceOp::kSum, {.name = "sum"})->Wait().ok());
  EXPECT_TRUE(comm.AllGather(a, b, 4, DType::kFloat32, {.name = "gather"})->Wait().ok());
  EXPECT_TRUE(
      comm.ReduceScatter(b, a, 4, DType::kFloat32, ReduceOp::kMax, {.name = "shard"})->Wait().ok());
  EXPECT_TRUE(comm.Broadcast(a, bytes, 0, {.name = "weights"})->Wait().ok());
  EXPECT_TRUE(comm.AllToAll({{a, bytes}}, {{b, bytes}}, {.name = "exchange"})->Wait().ok());
  EXPECT_TRUE(comm.Barrier({.name = "end"})->Wait().ok());
  std::vector<float> got(4);
  ASSERT_EQ(cudaMemcpy(got.data(), b, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(got, values);

  comm.Abort(Cancelled("enough"));
  EXPECT_EQ(comm.Barrier({.name = "late"})->Wait().code(), StatusCode::kCancelled);
  cudaFree(a);
  cudaFree(b);
}

}  // namespace
}  // namespace weft
