// Short runs of every model on the double of a GPU, against the CPU: the same code as a worker's, from the batch to the state
// that a checkpoint has.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/comm/mesh_communicators.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/staged_communicator.h"
#include "tests/parity/parity_models.h"
#include "tests/parity/trajectory.h"

namespace weft::testing {
namespace {

// The norm is summed in another order on a device, so nothing is clipped where bits are compared.
Recipe RecipeOf(const std::string& model) {
  Recipe recipe = ParityRecipe(model);
  recipe.set_steps(2);
  recipe.mutable_batch()->set_slots(4);
  recipe.mutable_optimizer()->set_clip_norm(0);
  // Two blocks of each kind are enough for what a device could get wrong.
  ModelRecipe* family = recipe.mutable_model();
  if (model == "clip") {
    family->mutable_clip()->set_vision_layers(2);
    family->mutable_clip()->set_text_layers(2);
  } else if (model == "roberta") {
    family->mutable_roberta()->set_layers(2);
  } else {
    family->mutable_llava()->set_vision_layers(3);
    family->mutable_llava()->set_layers(2);
  }
  return recipe;
}

void ExpectSame(const Trajectory& device, const Trajectory& host) {
  EXPECT_EQ(device.losses, host.losses);
  ASSERT_EQ(device.norms.size(), host.norms.size());
  for (size_t i = 0; i < host.norms.size(); ++i)
    EXPECT_NEAR(device.norms[i], host.norms[i], 1e-12 * host.norms[i]);
  ASSERT_EQ(device.state.size(), host.state.size());
  for (const auto& [name, tensor] : host.state)
    EXPECT_TRUE(at::equal(device.state.at(name), tensor)) << name;
}

// How the ranks of a layout reach each other; called on the thread of a rank.
using Connect = std::function<StatusOr<MeshCommunicators>(const ParallelDims& dims, int rank)>;

StatusOr<RankPart> RunRank(const Recipe& recipe, int rank, const MeshCommunicators& mesh) {
  AxisCommunicators axes{mesh.dp.get(), mesh.tp.get(), mesh.pp.get()};
  WEFT_ASSIGN_OR_RETURN(axes.device, ComputeDevice::Open(rank));
  try {
    return RunParityRank(recipe, axes);
  } catch (const std::exception& error) {
    return Internal(error.what());
  }
}

// Ranks as threads, each with a device.
StatusOr<Trajectory> RunOnDevices(const Recipe& recipe, const Connect& connect) {
  const Layout& layout = recipe.layout();
  const ParallelDims dims{.pp = layout.pp(), .dp = layout.dp(), .tp = layout.tp()};
  const auto ranks = static_cast<size_t>(dims.pp * dims.dp * dims.tp);
  std::vector<StatusOr<RankPart>> results(ranks, Internal("not run"));
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const int rank = static_cast<int>(r);
      StatusOr<MeshCommunicators> mesh = MeshCommunicators();
      if (ranks > 1) mesh = connect(dims, rank);
      if (!mesh.ok()) {
        results[r] = mesh.status();
        return;
      }
      results[r] = RunRank(recipe, rank, *mesh);
      if (!results[r].ok()) mesh->Abort(results[r].status());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<RankPart> parts;
  for (size_t r = 0; r < ranks; ++r) {
    if (!results[r].ok()) return results[r].status().WithContext("rank " + std::to_string(r));
    parts.push_back(*std::move(results[r]));
  }
  return Assemble(parts);
}

// The double of NCCL, in the order of the ranks' computations.
Connect OverNccl() {
  const auto id = MakeNcclUniqueId();
  return [id](const ParallelDims& dims, int rank) -> StatusOr<MeshCommunicators> {
    WEFT_RETURN_IF_ERROR(id.status());
    NcclOptions options;
    options.rank = rank;
    options.size = dims.pp * dims.dp * dims.tp;
    options.unique_id = *id;
    options.device = rank;
    return ConnectNcclMesh(dims, options);
  };
}

// Ranks that reach each other over the host, as over tcp.
Connect Staged(std::vector<MeshCommunicators>* hosts) {
  return [hosts](const ParallelDims& /*dims*/, int rank) -> StatusOr<MeshCommunicators> {
    MeshCommunicators mesh = std::move((*hosts)[static_cast<size_t>(rank)]);
    for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
      if (mesh.Of(axis) == nullptr) continue;
      WEFT_ASSIGN_OR_RETURN(mesh.Of(axis), StageThroughHost(std::move(mesh.Of(axis)), rank));
    }
    return mesh;
  };
}

class DeviceTrajectory : public ::testing::TestWithParam<const char*> {};

TEST_P(DeviceTrajectory, OneRankHasTheBitsOfTheCpu) {
  const Recipe recipe = RecipeOf(GetParam());
  const auto host = RunOnThreads(recipe);
  ASSERT_TRUE(host.ok()) << host.status();
  const auto device = RunOnDevices(recipe, nullptr);
  ASSERT_TRUE(device.ok()) << device.status();
  ExpectSame(*device, *host);
}

// The exchanges of the slot tree add on the ranks, so NCCL's order of adding does not matter.
TEST_P(DeviceTrajectory, DataParallelOverNcclHasTheBitsOfOneRank) {
  Recipe recipe = RecipeOf(GetParam());
  const auto one = RunOnThreads(recipe);
  ASSERT_TRUE(one.ok()) << one.status();
  for (const int zero : {1, 2, 3}) {
    SCOPED_TRACE("zero stage " + std::to_string(zero));
    recipe.mutable_layout()->set_dp(2);
    recipe.mutable_layout()->set_zero_stage(zero);
    const auto device = RunOnDevices(recipe, OverNccl());
    ASSERT_TRUE(device.ok()) << device.status();
    ExpectSame(*device, *one);
  }
}

TEST_P(DeviceTrajectory, PipelineOverNcclHasTheBitsOfOneRank) {
  Recipe recipe = RecipeOf(GetParam());
  const auto one = RunOnThreads(recipe);
  ASSERT_TRUE(one.ok()) << one.status();
  recipe.mutable_layout()->set_pp(2);
  recipe.mutable_layout()->set_dp(2);
  const auto device = RunOnDevices(recipe, OverNccl());
  ASSERT_TRUE(device.ok()) << device.status();
  ExpectSame(*device, *one);
}

// The order of the sums is the host's, so tensor-parallel layouts have its bits too.
TEST_P(DeviceTrajectory, EveryAxisThroughTheHostHasTheBitsOfTheCpu) {
  Recipe recipe = RecipeOf(GetParam());
  recipe.mutable_layout()->set_dp(2);
  recipe.mutable_layout()->set_tp(2);
  recipe.mutable_layout()->set_pp(2);
  recipe.mutable_layout()->set_zero_stage(2);
  const auto host = RunOnThreads(recipe);
  ASSERT_TRUE(host.ok()) << host.status();
  auto mesh = MakeInProcessMesh({.pp = 2, .dp = 2, .tp = 2});
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  const auto device = RunOnDevices(recipe, Staged(&*mesh));
  ASSERT_TRUE(device.ok()) << device.status();
  ExpectSame(*device, *host);
}

// NCCL adds in an order of its own.
TEST_P(DeviceTrajectory, TensorParallelOverNcclIsTheCpus) {
  Recipe recipe = RecipeOf(GetParam());
  recipe.mutable_layout()->set_tp(2);
  recipe.mutable_layout()->set_sequence_parallel(true);
  const auto host = RunOnThreads(recipe);
  ASSERT_TRUE(host.ok()) << host.status();
  const auto device = RunOnDevices(recipe, OverNccl());
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_LT(MaxRelativeError(*device, *host), 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Models, DeviceTrajectory,
                         ::testing::Values("clip", "roberta", "llava", "llava-packed"));

}  // namespace
}  // namespace weft::testing
